"""The worker image's command: execute the flow run of a grant, or else the job that the environment names.

A rented container has a grant and no secret. It exchanges the grant for a session at our API, once, and passes the
session to the process that executes the run. Without a grant it runs `kangklip job`.
"""

import os
import secrets
import sys
from typing import Any, NoReturn

import httpx
import tenacity

from deployments import console
from infra.errors import ConfigError, GrantRefused, InfraError
from infra.granted.access import VARIABLE, Access
from infra.nosana.job_definition import GRANT_VARIABLE

API_VARIABLE = "KANGKLIP_API_URL"
RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"
REFUSED = 3
"""Exit status of a container whose grant was refused."""
_PATIENCE_SECONDS = 180
_NO_ANSWER = (502, 503, 504)
"""Statuses of our API while it is unavailable, and of a proxy in front of it."""
_TIMEOUT = httpx.Timeout(60, connect=10)


def main() -> None:
    if os.environ.get(GRANT_VARIABLE):
        try:
            access = redeem(_required(API_VARIABLE), os.environ.pop(GRANT_VARIABLE))
            execute(_required(RUN_VARIABLE), access)
        except InfraError as error:
            console.fail(str(error))
            sys.exit(2 if isinstance(error, ConfigError) else REFUSED)
    _become([sys.executable, "-m", "deployments.cli.main", "job"])


def redeem(api_url: str, grant: str) -> Access:
    """Exchange the grant for a session. If the answer is lost, the call is repeated with the same nonce.

    Raises:
        GrantRefused: our API refuses it, or did not answer for too long.
    """
    try:
        body = {"grant": grant, "nonce": secrets.token_urlsafe(24)}
        answer = _post(f"{api_url.rstrip('/')}/api/worker/grant", body)
    except httpx.HTTPError as error:
        raise GrantRefused(
            f"{API_VARIABLE} did not answer ({type(error).__name__}); check that it is reached from outside, "
            "then start the job again."
        ) from None
    if not answer.is_success:
        raise GrantRefused(f"The grant was refused ({answer.status_code}: {_detail(answer)}). Start the job again.")
    return Access.model_validate(answer.json()["access"] | {"url": api_url.rstrip("/")})


def execute(run_id: str, access: Access) -> None:
    """Become the process that executes the flow run: it gets the container's signals and sets its exit status."""
    os.environ |= environment(access)
    _become([sys.executable, "-m", "prefect", "flow-run", "execute", run_id])


def _become(command: list[str]) -> NoReturn:
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 no shell is needed


def environment(access: Access) -> dict[str, str]:
    """Variables by which the run reaches everything with the session instead of a secret."""
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
        "PREFECT_LOGGING_TO_API_MAX_LOG_SIZE": "20000",  # our API takes bodies of 1 MB
        "PREFECT_LOGGING_TO_API_BATCH_SIZE": "200000",
        "DO_NOT_TRACK": "1",
        **(llm if access.llm_model else {}),
    }


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(httpx.TransportError)
    | tenacity.retry_if_result(lambda answer: answer.status_code in _NO_ANSWER),
    wait=tenacity.wait_random_exponential(multiplier=0.5, max=10),
    stop=tenacity.stop_after_delay(_PATIENCE_SECONDS),
    retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
)
def _post(url: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(url, json=body, timeout=_TIMEOUT, follow_redirects=False)


def _detail(answer: httpx.Response) -> str:
    try:
        said = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return "no reason given"
    return str(said)[:200]


def _required(variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise ConfigError(f"{variable} is missing; set it together with {GRANT_VARIABLE}, as the Nosana worker does.")
    return value


if __name__ == "__main__":
    main()
