"""Fixtures that several folders of tests share."""

from collections.abc import Iterator

import pytest

from infra.artifacts import ArtifactStore
from infra.local.stack import LocalStack
from infra.settings import Settings


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Valkey, the S3 server and the Prefect server, for the whole test run; `stack.settings` leads to them.

    It is put into the environment, so that Prefect, imported later, talks to it.
    """
    with LocalStack(Settings(KANGKLIP_DATA_DIR=tmp_path_factory.mktemp("data"))) as running:
        running.apply()
        yield running


@pytest.fixture(scope="session")
def store(stack: LocalStack) -> ArtifactStore:
    return ArtifactStore.from_settings(stack.settings)
