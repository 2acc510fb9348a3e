"""The build step of prefect.yaml: `prefect deploy` creates the work pools before it saves a deployment."""

from typing import Any

from prefect.settings import get_current_settings

from deployments.registry.register import register_pools
from infra.errors import ConfigError
from infra.nosana.worker import NosanaWorker


def make_pools() -> dict[str, Any]:
    """Create the work pools on the server that `prefect deploy` uses; the step has no outputs.

    Raises:
        ConfigError: no server is named.
        SubmitError: the Prefect server is away or refuses.
        StackError: a pool exists with another type.
    """
    api_url = get_current_settings().api.url
    if not api_url:
        raise ConfigError("No Prefect server is named; set PREFECT_API_URL.")
    register_pools(str(api_url), {NosanaWorker.type: NosanaWorker.get_default_base_job_template()})
    return {}
