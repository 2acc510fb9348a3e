"""Fixtures that several folders of tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.artifacts import ArtifactStore
from infra.local.parts import Part
from infra.local.stack import LocalStack
from infra.settings import Settings


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def servers(data_dir: Path) -> Iterator[LocalStack]:
    """Valkey and the S3 server, up in a second; `servers.settings` leads to them."""
    with LocalStack(Settings(KANGKLIP_DATA_DIR=data_dir), [Part.VALKEY, Part.S3]) as running:
        yield running


@pytest.fixture(scope="session")
def stack(data_dir: Path, servers: LocalStack) -> Iterator[LocalStack]:
    """The same two and the Prefect server; `stack.settings` leads to them.

    It is put into the environment, so that Prefect, imported later, talks to it.
    """
    given = servers.settings.model_copy(update=dict.fromkeys(("redis_url", "r2_endpoint", "prefect_api_url")))
    with LocalStack(given) as running:
        running.apply()
        yield running


@pytest.fixture(scope="session")
def store(servers: LocalStack) -> ArtifactStore:
    return ArtifactStore.from_settings(servers.settings)
