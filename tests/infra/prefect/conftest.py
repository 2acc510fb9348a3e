"""Runs on the session's Prefect server."""

from tests.deployments.conftest import prefect_runs

__all__ = ["prefect_runs"]
