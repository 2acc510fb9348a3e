"""Fixtures shared by several folders of tests."""

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from deployments.registry.register import register
from infra.bucket.store import ArtifactStore
from infra.local.services import WORK_POOL, Service
from infra.local.stack import LocalStack
from infra.prefect.runs import PrefectRuns
from infra.settings import Settings
from tests.folders import TESTS

hypothesis.settings.register_profile("kangklip", deadline=None)  # machines may be busy
hypothesis.settings.load_profile("kangklip")

LONGEST_FIRST = ("flows", "nosana", "deployments", "infra", "stages", "engines")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders whose tests take minutes, so that two processes end at about the same time."""
    order = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.relative_to(TESTS).parts[0], len(order)))


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def embedded(data_dir: Path) -> Settings:
    """Settings that name no server, whatever the environment says, so that no test touches a real bucket or Redis."""
    nothing = dict.fromkeys(("redis_url", "r2_endpoint", "r2_access_key_id", "r2_secret_access_key", "prefect_api_url"))
    return Settings(KANGKLIP_DATA_DIR=data_dir).model_copy(update=nothing | {"r2_bucket": "clips"})


@pytest.fixture(scope="session")
def servers(embedded: Settings) -> Iterator[LocalStack]:
    """Valkey and the S3 server, which start in a second; `servers.settings` names them."""
    with LocalStack(embedded, [Service.VALKEY, Service.S3]) as running:
        yield running


@pytest.fixture(scope="session")
def stack(embedded: Settings, servers: LocalStack) -> Iterator[LocalStack]:
    """The same two and the Prefect server; `stack.settings` names them.

    They are put into the environment too, which Prefect reads when it is imported, and into the settings of a Prefect
    that a test module has imported already: without an address, Prefect would start a server of its own.
    """
    with LocalStack(embedded) as running:
        running.apply()
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: running.settings.prefect_api_url}):
            yield running


@pytest.fixture(scope="session")
def store(servers: LocalStack) -> ArtifactStore:
    return ArtifactStore.from_settings(servers.settings)


@pytest.fixture(scope="session")
def prefect_runs(stack: LocalStack) -> PrefectRuns:
    """Runs of clip/local on the real Prefect server, where no worker takes them."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in stack.environment().items():
            patched.setenv(name, value)
        register(stack.settings.prefect_api_url, pools=[WORK_POOL])
    return PrefectRuns.from_settings(stack.settings)
