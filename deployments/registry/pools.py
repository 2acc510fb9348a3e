"""The build step of prefect.yaml, by which `prefect deploy` creates the work pools before the deployments."""

from typing import Any

from prefect.settings import get_current_settings

from deployments.registry.register import register_pools
from infra.errors import ConfigError
from infra.nosana.worker import NosanaWorker


def create_pools() -> dict[str, Any]:
    """Create the work pools on the server that `prefect deploy` uses; the step has no outputs.

    Raises:
        ConfigError: PREFECT_API_URL is not set.
        SubmitError: the Prefect server does not answer, or refuses.
        StackError: a pool exists with another type.
    """
    api_url = get_current_settings().api.url
    if not api_url:
        raise ConfigError("No Prefect server is set; set PREFECT_API_URL to its API address.")
    register_pools(str(api_url), {NosanaWorker.type: NosanaWorker.get_default_base_job_template()})
    return {}
