"""A client for a Prefect server's HTTP API, for all code outside flows and workers.

Prefect's own client is not used, because its import takes seconds and reads settings.
"""

from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import httpx
import tenacity

from infra.errors import SubmitError

BUSY_TRIES = 6
PATIENCE_SECONDS = 40.0
"""A call is not retried after this long."""
_TIMEOUT = httpx.Timeout(15, connect=3)
_FORWARD_TIMEOUT = httpx.Timeout(30, connect=3)


class NotFound(SubmitError):
    """The server answered 404."""


class AlreadyExists(SubmitError):
    """The server answered 409: something of that name exists."""


class PrefectServer:
    """A Prefect server; also a context manager that closes the connections.

    A call is retried while the server is busy, and when its response was lost. Every call must therefore be idempotent:
    runs are created under an idempotency key, and states and names are set.
    """

    def __init__(self, api_url: str, transport: httpx.BaseTransport | None = None) -> None:
        self._client = httpx.Client(base_url=f"{api_url.rstrip('/')}/", timeout=_TIMEOUT, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request and return the response's JSON, or None if it is empty.

        Raises:
            NotFound, AlreadyExists: the server answered 404 or 409.
            SubmitError: it did not answer, refused the request, or is not a Prefect server.
        """
        try:
            answer = self._request_with_retries(method, path, body)
        except httpx.HTTPError as error:
            raise no_answer_error(error) from error
        if answer.is_error:
            raise status_error(answer.status_code, path)
        try:
            return answer.json() if answer.content else None
        except ValueError:
            raise wrong_url_error() from None

    def _request_with_retries(self, method: str, path: str, body: Any) -> httpx.Response:
        retry = tenacity.Retrying(
            retry=tenacity.retry_if_result(_is_busy) | tenacity.retry_if_exception(_may_have_arrived),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=2),
            stop=tenacity.stop_after_attempt(BUSY_TRIES) | tenacity.stop_after_delay(PATIENCE_SECONDS),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        return retry(self._client.request, method, path, json=body)


def forwarding_client(api_url: str) -> httpx.AsyncClient:
    """A client without retries: the machines whose calls it forwards retry them."""
    return httpx.AsyncClient(base_url=f"{api_url.rstrip('/')}/", timeout=_FORWARD_TIMEOUT)


def no_server_error() -> SubmitError:
    return SubmitError("No Prefect server is set; set PREFECT_API_URL to its API address.")


def no_answer_error(error: httpx.HTTPError) -> SubmitError:
    return SubmitError(f"The Prefect server did not answer ({type(error).__name__}); check PREFECT_API_URL.")


def status_error(status: int, path: str) -> SubmitError:
    """The error for a status of 400 or above. It does not quote the server's own text."""
    kinds = {int(HTTPStatus.NOT_FOUND): NotFound, int(HTTPStatus.CONFLICT): AlreadyExists}
    kind = kinds.get(status, SubmitError)
    return kind(f"The Prefect server answered {status} to {path.partition('/')[0]}; read its log.")


def wrong_url_error() -> SubmitError:
    return SubmitError("PREFECT_API_URL is not the URL of a Prefect API; it must end in /api.")


def _is_busy(answer: httpx.Response) -> bool:
    """Whether the server was too busy to handle the call. On SQLite it answers 503 while its database is locked."""
    return answer.status_code in (httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS)


def _may_have_arrived(error: BaseException) -> bool:
    """Whether the request may have reached the server although no response came back."""
    return isinstance(error, httpx.TransportError) and not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
