"""The worker image's command: executes the flow run of a grant, or `kangklip job` if there is none.

A rented container has a grant and no secrets. It exchanges the grant at our API for a session, once, and passes the
session to the process that executes the run.
"""

import os
import secrets
import sys
from typing import Any, NoReturn

import httpx
import tenacity

from deployments import console
from infra.errors import ApiUnreachable, ConfigError, GrantRefused, InfraError
from infra.granted.access import VARIABLE, Access
from infra.nosana.diagnosis import UNREACHABLE
from infra.nosana.job_definition import GRANT_VARIABLE

API_VARIABLE = "KANGKLIP_API_URL"
RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"
GRANT_REFUSED_STATUS = 3
"""Exit status of a container whose grant was refused."""
_RETRY_SECONDS = 180
_UNAVAILABLE = (502, 503, 504)
"""Statuses with which our API, or a proxy in front of it, says that it is unavailable."""
_TIMEOUT = httpx.Timeout(60, connect=10)


def main() -> None:
    if os.environ.get(GRANT_VARIABLE):
        try:
            access = redeem(_required(API_VARIABLE), os.environ.pop(GRANT_VARIABLE))
            execute(_required(RUN_VARIABLE), access)
        except InfraError as error:
            console.fail(str(error))
            sys.exit({ConfigError: 2, ApiUnreachable: UNREACHABLE}.get(type(error), GRANT_REFUSED_STATUS))
    _exec([sys.executable, "-m", "deployments.cli.main", "job"])


def redeem(api_url: str, grant: str) -> Access:
    """Exchange the grant for a session. If the response is lost, retry with the same nonce.

    Raises:
        GrantRefused: our API refuses the grant.
        ApiUnreachable: our API does not answer.
    """
    try:
        body = {"grant": grant, "nonce": secrets.token_urlsafe(24)}
        answer = _post(f"{api_url.rstrip('/')}/api/worker/grant", body)
    except httpx.HTTPError as error:
        raise ApiUnreachable(_unreachable(type(error).__name__)) from None
    if answer.status_code in _UNAVAILABLE:
        raise ApiUnreachable(_unreachable(str(answer.status_code)))
    if not answer.is_success:
        raise GrantRefused(f"The grant was refused ({answer.status_code}: {_detail(answer)}). Start the job again.")
    return Access.model_validate(answer.json()["access"] | {"url": api_url.rstrip("/")})


def execute(run_id: str, access: Access) -> None:
    """Replace this process with the one that executes the flow run, so that it gets the container's signals."""
    os.environ |= environment(access)
    _exec([sys.executable, "-m", "prefect", "flow-run", "execute", run_id])


def _exec(command: list[str]) -> NoReturn:
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 no shell is needed


def environment(access: Access) -> dict[str, str]:
    """The run's environment, in which the session token takes the place of secrets."""
    llm = {
        "LLM_MODEL_NAME": f"openai/{access.llm_model}",
        "LLM_API_BASE": f"{access.url}/api/worker/llm",
        "LLM_API_KEY": access.token,
    }
    return {
        VARIABLE: access.model_dump_json(),
        "CALLBACK_URL": f"{access.url}/api/callback/nosana",
        "CALLBACK_TOKEN": access.token,
        "PREFECT_API_URL": f"{access.url}/api/worker/prefect",
        "PREFECT_API_AUTH_STRING": access.token,
        "PREFECT_LOGGING_TO_API_MAX_LOG_SIZE": "20000",  # our API accepts bodies up to 1 MB
        "PREFECT_LOGGING_TO_API_BATCH_SIZE": "200000",
        "DO_NOT_TRACK": "1",
        **(llm if access.llm_model else {}),
    }


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(httpx.TransportError)
    | tenacity.retry_if_result(lambda answer: answer.status_code in _UNAVAILABLE),
    wait=tenacity.wait_random_exponential(multiplier=0.5, max=10),
    stop=tenacity.stop_after_delay(_RETRY_SECONDS),
    retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
)
def _post(url: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(url, json=body, timeout=_TIMEOUT, follow_redirects=False)


def _unreachable(how: str) -> str:
    return f"{API_VARIABLE} did not answer ({how}); check that it is reachable from outside."


def _detail(answer: httpx.Response) -> str:
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return "no reason given"
    return str(detail)[:200]


def _required(variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise ConfigError(f"{variable} is missing; set it along with {GRANT_VARIABLE}, as the Nosana worker does.")
    return value


if __name__ == "__main__":
    main()
