"""The deployments on the session's Prefect server."""

import pytest

from deployments import serve
from deployments.submit import PrefectRuns


@pytest.fixture(scope="session")
def prefect_runs(stack):
    """Runs of clip/local on a real server, where no worker takes them."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in stack.environment().items():
            patched.setenv(name, value)
        patched.setenv("KANGKLIP_HOME", str(serve.ROOT))
        serve.register(stack.settings.prefect_api_url)
    return PrefectRuns.from_settings(stack.settings)
