"""The deployments on the session's Prefect server."""

import pytest

from deployments.registry.register import register
from infra.local.parts import WORK_POOL
from infra.prefect.runs import PrefectRuns


@pytest.fixture(scope="session")
def prefect_runs(stack):
    """Runs of clip/local on a real server, where no worker takes them."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in stack.environment().items():
            patched.setenv(name, value)
        register(stack.settings.prefect_api_url, pools=[WORK_POOL])
    return PrefectRuns.from_settings(stack.settings)
