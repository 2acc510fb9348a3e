"""The HTTP API of a Prefect server. All of our own calls go through here.

Prefect's client is not used: its import takes seconds and reads settings.
"""

from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import httpx
import tenacity

from infra.errors import SubmitError

BUSY_TRIES = 6
PATIENCE_SECONDS = 40.0
"""No call is repeated after this long."""
_TIMEOUT = httpx.Timeout(15, connect=3)
_FORWARD_TIMEOUT = httpx.Timeout(30, connect=3)


class NotThere(SubmitError):
    """The server has nothing at that path."""


class ExistsAlready(SubmitError):
    """Something of that name is there already."""


class PrefectServer:
    """A Prefect server, which may be used as a context manager.

    A call is repeated while the server is busy, and after its answer was lost. So only calls that may arrive twice
    are made: runs are created under a key, states and names are set.
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

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON, or None if it is empty.

        Raises:
            NotThere, ExistsAlready: the server answered 404, or 409.
            SubmitError: it did not answer, refused, or is no Prefect server.
        """
        try:
            answer = self._patiently(method, path, body)
        except httpx.HTTPError as error:
            raise no_answer(error) from error
        if answer.is_error:
            raise refused(answer.status_code, path)
        try:
            return answer.json() if answer.content else None
        except ValueError:
            raise not_an_api() from None

    def _patiently(self, method: str, path: str, body: Any) -> httpx.Response:
        repeat = tenacity.Retrying(
            retry=tenacity.retry_if_result(_is_busy) | tenacity.retry_if_exception(_may_have_arrived),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=2),
            stop=tenacity.stop_after_attempt(BUSY_TRIES) | tenacity.stop_after_delay(PATIENCE_SECONDS),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        return repeat(self._client.request, method, path, json=body)


def forwarding_client(api_url: str) -> httpx.AsyncClient:
    """A client that repeats nothing: the machines whose calls it forwards repeat them."""
    return httpx.AsyncClient(base_url=f"{api_url.rstrip('/')}/", timeout=_FORWARD_TIMEOUT)


def no_server() -> SubmitError:
    return SubmitError("No Prefect server is named; set PREFECT_API_URL.")


def no_answer(error: httpx.HTTPError) -> SubmitError:
    return SubmitError(f"The Prefect server did not answer ({type(error).__name__}); check PREFECT_API_URL.")


def refused(status: int, path: str) -> SubmitError:
    """The error of an answer's status; the server's own text is not repeated."""
    kinds = {int(HTTPStatus.NOT_FOUND): NotThere, int(HTTPStatus.CONFLICT): ExistsAlready}
    kind = kinds.get(status, SubmitError)
    return kind(f"The Prefect server answered {status} to {path.partition('/')[0]}; read its log.")


def not_an_api() -> SubmitError:
    return SubmitError("PREFECT_API_URL does not lead to a Prefect API; its address ends in /api.")


def _is_busy(answer: httpx.Response) -> bool:
    """A server on SQLite answers 503 while its database is locked, and has done nothing then."""
    return answer.status_code in (httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS)


def _may_have_arrived(error: BaseException) -> bool:
    """Whether a request that got no answer may have been carried out; repeating it finds out."""
    return isinstance(error, httpx.TransportError) and not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
