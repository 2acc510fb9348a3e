"""A typed client for Nosana's deployments API. The error of a failed call says whether it may have taken effect.

NosanaError
├── NosanaRefused      the request or the key is refused; a retry is pointless
├── NosanaNotFound     it does not exist, or belongs to another account
├── WrongState         the deployment's state does not allow the call; read the state before trying again
└── NosanaUnavailable  no answer, a server error, or a rate limit; see `may_have_taken_effect`
"""

from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import httpx
import tenacity
from pydantic import BaseModel, SecretStr, ValidationError

from infra.errors import NosanaError
from infra.nosana.models import Credits, Deployment, DeploymentState, Event, JobDetail, Market, NosanaJob
from infra.untrusted_text import one_line

T = TypeVar("T", bound=BaseModel)

TRIES = 4
_PAGE = 100
_TIMEOUT = httpx.Timeout(30, connect=5)
_LONGEST_WAIT = 30.0
"""Longest Retry-After that we wait for, in seconds. If it is longer, the call fails."""
_WRONG_STATE = "incorrect state"
_ARCHIVED = "archived deployment"


class NosanaRefused(NosanaError):
    pass


class NosanaNotFound(NosanaError):
    pass


class WrongState(NosanaError):
    pass


class NosanaUnavailable(NosanaError):
    """`may_have_taken_effect`: the call may have taken effect. `retry_after` is in seconds, or None if not given."""

    is_transient = True

    def __init__(self, message: str, *, may_have_taken_effect: bool, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.may_have_taken_effect = may_have_taken_effect
        self.retry_after = retry_after


class NosanaClient:
    """An async context manager. Reads are retried; changes only if the failed call certainly had no effect."""

    def __init__(self, api_base: str, api_key: SecretStr, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._http = httpx.AsyncClient(
            base_url=api_base.rstrip("/") + "/",
            headers={"Authorization": f"Bearer {api_key.get_secret_value()}"},
            timeout=_TIMEOUT,
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def create(self, body: Mapping[str, Any]) -> Deployment:
        """Create the deployment unless one of that name exists. If the answer is lost, look it up by name.

        Raises:
            NosanaUnavailable: it may or may not exist; check later with `find`.
        """
        if (known := await self.find(body["name"])) is not None:
            return known
        try:
            return _read(Deployment, await self._ask("POST", "deployments/create", json=body))
        except NosanaUnavailable as error:
            if error.may_have_taken_effect and (created := await self.find(body["name"])) is not None:
                return created
            raise

    async def get(self, deployment_id: str) -> Deployment:
        return _read(Deployment, await self._ask("GET", f"deployments/{deployment_id}"))

    async def find(self, name: str) -> Deployment | None:
        """The oldest deployment of exactly that name, or None. Nosana does not enforce unique names."""
        listed = self._pages("deployments", "deployments", Deployment, {"name": name})
        named: list[Deployment] = [found async for found in listed if found.name == name]
        return min(named, key=lambda one: one.created_at, default=None)

    async def search(self, prefix: str, status: DeploymentState | None = None) -> list[Deployment]:
        """All deployments whose name begins with `prefix`; with None, of every status, including archived ones."""
        query = {"search": prefix} | ({"status": status.value} if status else {})
        found = self._pages("deployments", "deployments", Deployment, query)
        return [deployment async for deployment in found if deployment.name.startswith(prefix)]

    async def unarchived(self, prefix: str) -> list[Deployment]:
        """Like `search`, but without archived deployments, of which there are more and more to page through."""
        states = [state for state in DeploymentState if state is not DeploymentState.ARCHIVED]
        found = [deployment for state in states for deployment in await self.search(prefix, state)]
        # A deployment that changed its state between two searches is found twice.
        return list({deployment.id: deployment for deployment in found}.values())

    async def start(self, deployment_id: str) -> None:
        await self._ask("POST", f"deployments/{deployment_id}/start")

    async def stop(self, deployment_id: str) -> None:
        await self._ask("POST", f"deployments/{deployment_id}/stop")

    async def archive(self, deployment_id: str) -> None:
        await self._ask("POST", f"deployments/{deployment_id}/archive")

    async def jobs(self, deployment_id: str) -> list[NosanaJob]:
        """The deployment's jobs, newest first."""
        found = [job async for job in self._pages(f"deployments/{deployment_id}/jobs", "jobs", NosanaJob)]
        return sorted(found, key=lambda job: job.created_at, reverse=True)

    async def job(self, deployment_id: str, job_id: str) -> JobDetail:
        return _read(JobDetail, await self._ask("GET", f"deployments/{deployment_id}/jobs/{job_id}"))

    async def events(self, deployment_id: str) -> list[Event]:
        """The deployment's events, newest first."""
        found = [event async for event in self._pages(f"deployments/{deployment_id}/events", "events", Event)]
        return sorted(found, key=lambda event: event.created_at, reverse=True)

    async def markets(self) -> list[Market]:
        answer = await self._ask("GET", "markets/")
        return [_read(Market, market) for market in answer]

    async def market(self, address_or_slug: str) -> Market:
        """The market with that address or slug.

        Raises:
            NosanaNotFound: there is none; the message lists all markets.
        """
        known = await self.markets()
        for market in known:
            if address_or_slug in (market.address, market.slug):
                return market
        slugs = ", ".join(sorted(market.slug for market in known)) or "none"
        raise NosanaNotFound(f"Nosana has no market {address_or_slug}; set NOSANA_MARKET to one of: {slugs}.")

    async def credits(self) -> Credits:
        return _read(Credits, await self._ask("GET", "credits/balance"))

    async def _pages(
        self, path: str, part: str, kind: type[T], query: Mapping[str, str] | None = None
    ) -> AsyncIterator[T]:
        cursor: str | None = None
        while True:
            params = dict(query or {}) | {"limit": str(_PAGE)} | ({"cursor": cursor} if cursor else {})
            answer = await self._ask("GET", path, params=params)
            for item in _part(answer, part):
                yield _read(kind, item)
            cursor = _part(answer, "pagination").get("cursor_next")
            if not cursor:
                return

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        again = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(lambda error: _may_repeat(method, error)),
            wait=_wait,
            stop=tenacity.stop_after_attempt(TRIES),
            reraise=True,
        )
        return await again(self._ask_once, method, path, **options)

    async def _ask_once(self, method: str, path: str, **options: Any) -> Any:
        try:
            answer = await self._http.request(method, path, **options)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise NosanaUnavailable(
                f"Nosana cannot be reached ({type(error).__name__}).", may_have_taken_effect=False
            ) from error
        except httpx.HTTPError as error:
            raise NosanaUnavailable(
                f"Nosana did not answer ({type(error).__name__}).", may_have_taken_effect=True
            ) from error
        if answer.is_success:
            return _json(answer)
        raise _error_from(answer, path)


def _error_from(answer: httpx.Response, path: str) -> NosanaError:
    """The error for an unsuccessful answer. Of Nosana's own text, at most 200 characters are quoted."""
    status, action = answer.status_code, path.partition("?")[0].rpartition("/")[2]
    body = cast("dict[str, Any]", body) if isinstance(body := _json(answer), dict) else {}
    text = one_line(str(body.get("error") or body.get("message") or ""), 200)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return NosanaRefused("Nosana does not accept the key; check NOSANA_API_KEY.")
    if status == HTTPStatus.NOT_FOUND:
        return NosanaNotFound(text or "Nosana found nothing there.")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        wait = answer.headers.get("retry-after", "")
        return NosanaUnavailable(
            "Nosana refused the call because of its rate limit.",
            may_have_taken_effect=False,
            retry_after=float(wait) if wait.isdecimal() else 1,
        )
    if _WRONG_STATE in text or _ARCHIVED in text:
        return WrongState(f"Nosana refused to {action} a deployment: {text}")
    if answer.is_server_error:
        return NosanaUnavailable(f"Nosana answered {status} to {action}.", may_have_taken_effect=True)
    return NosanaRefused(f"Nosana refused {action} with {status}: {text or 'no reason given'}")


def _may_repeat(method: str, error: BaseException) -> bool:
    """Whether the call can be retried safely: a read always can, a change if it had no effect."""
    if not isinstance(error, NosanaUnavailable) or (error.retry_after or 0) > _LONGEST_WAIT:
        return False
    return method == "GET" or not error.may_have_taken_effect


def _wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    retry_after = error.retry_after if isinstance(error, NosanaUnavailable) else None
    return retry_after if retry_after is not None else tenacity.wait_random_exponential(multiplier=0.3, max=5)(state)


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json() if answer.content else {}
    except ValueError:
        return {}


def _part(answer: Any, name: str) -> Any:
    if not isinstance(answer, dict) or name not in answer:
        raise NosanaUnavailable(f"Nosana's answer lacks {name}.", may_have_taken_effect=True)
    return cast("dict[str, Any]", answer)[name]


def _read(kind: type[T], answer: Any) -> T:
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        faults = ", ".join(".".join(map(str, fault["loc"])) for fault in error.errors(include_input=False))
        raise NosanaUnavailable(
            f"Nosana's {kind.__name__} could not be read: {faults}.", may_have_taken_effect=True
        ) from None
