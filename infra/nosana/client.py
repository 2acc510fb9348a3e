"""Nosana's deployments API, typed. After a failed call, its error says whether the call may have had its effect.

NosanaError
├── NosanaRefused   the request or the key is refused; repeating it changes nothing
├── NosanaMissing   it does not exist, or belongs to another account
├── WrongState      the deployment's state does not allow it; look at it, then decide
└── NosanaAway      no answer, or not now; if `unsure`, the call may have had its effect
"""

from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import httpx
import tenacity
from pydantic import BaseModel, SecretStr, ValidationError

from infra.errors import NosanaError
from infra.nosana.models import Credits, Deployment, DeploymentState, Event, Job, JobDetail, Market
from infra.untrusted_text import one_line

T = TypeVar("T", bound=BaseModel)

TRIES = 4
_PAGE = 100
_TIMEOUT = httpx.Timeout(30, connect=5)
_LONGEST_WAIT = 30.0
"""Seconds of Retry-After that are waited for; after a longer one, Nosana counts as away."""
_WRONG_STATE = "incorrect state"
_ARCHIVED = "archived deployment"


class NosanaRefused(NosanaError):
    pass


class NosanaMissing(NosanaError):
    pass


class WrongState(NosanaError):
    pass


class NosanaAway(NosanaError):
    may_pass = True

    def __init__(self, message: str, *, unsure: bool, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.unsure = unsure
        self.retry_after = retry_after


class NosanaClient:
    """An async context manager. Reads are repeated; a change only if it certainly had no effect."""

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
        """Create exactly one deployment of that name; if the answer is lost, it is looked up by its name.

        Raises:
            NosanaAway: it may exist or not; `find` tells later.
        """
        if (known := await self.find(body["name"])) is not None:
            return known
        try:
            return _read(Deployment, await self._ask("POST", "deployments/create", json=body))
        except NosanaAway as error:
            if error.unsure and (made := await self.find(body["name"])) is not None:
                return made
            raise

    async def get(self, deployment_id: str) -> Deployment:
        return _read(Deployment, await self._ask("GET", f"deployments/{deployment_id}"))

    async def find(self, name: str) -> Deployment | None:
        """The oldest deployment of exactly that name; Nosana does not keep names unique."""
        listed = self._pages("deployments", "deployments", Deployment, {"name": name})
        named: list[Deployment] = [found async for found in listed if found.name == name]
        return min(named, key=lambda one: one.created_at, default=None)

    async def search(self, prefix: str, status: DeploymentState | None = None) -> list[Deployment]:
        """All deployments whose name begins with `prefix`; of any status if None, archived ones too."""
        query = {"search": prefix} | ({"status": status.value} if status else {})
        found = self._pages("deployments", "deployments", Deployment, query)
        return [deployment async for deployment in found if deployment.name.startswith(prefix)]

    async def unarchived(self, prefix: str) -> list[Deployment]:
        """As `search`, without the archive: it only grows, and is not paged through."""
        states = [state for state in DeploymentState if state is not DeploymentState.ARCHIVED]
        found = [deployment for state in states for deployment in await self.search(prefix, state)]
        return list(
            {deployment.id: deployment for deployment in found}.values()
        )  # one may have changed its state meanwhile

    async def start(self, deployment_id: str) -> None:
        await self._ask("POST", f"deployments/{deployment_id}/start")

    async def stop(self, deployment_id: str) -> None:
        await self._ask("POST", f"deployments/{deployment_id}/stop")

    async def archive(self, deployment_id: str) -> None:
        await self._ask("POST", f"deployments/{deployment_id}/archive")

    async def jobs(self, deployment_id: str) -> list[Job]:
        """Newest first."""
        found = [job async for job in self._pages(f"deployments/{deployment_id}/jobs", "jobs", Job)]
        return sorted(found, key=lambda job: job.created_at, reverse=True)

    async def job(self, deployment_id: str, job_id: str) -> JobDetail:
        return _read(JobDetail, await self._ask("GET", f"deployments/{deployment_id}/jobs/{job_id}"))

    async def events(self, deployment_id: str) -> list[Event]:
        """Newest first."""
        found = [event async for event in self._pages(f"deployments/{deployment_id}/events", "events", Event)]
        return sorted(found, key=lambda event: event.created_at, reverse=True)

    async def markets(self) -> list[Market]:
        answer = await self._ask("GET", "markets/")
        return [_read(Market, market) for market in answer]

    async def market(self, address_or_slug: str) -> Market:
        """The market of that address or slug.

        Raises:
            NosanaMissing: there is none; the message lists the markets.
        """
        known = await self.markets()
        for market in known:
            if address_or_slug in (market.address, market.slug):
                return market
        slugs = ", ".join(sorted(market.slug for market in known)) or "none"
        raise NosanaMissing(f"Nosana has no market {address_or_slug}; set NOSANA_MARKET to one of: {slugs}.")

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
            raise NosanaAway(f"Nosana cannot be reached ({type(error).__name__}).", unsure=False) from error
        except httpx.HTTPError as error:
            raise NosanaAway(f"Nosana did not answer ({type(error).__name__}).", unsure=True) from error
        if answer.is_success:
            return _json(answer)
        raise _fault(answer, path)


def _fault(answer: httpx.Response, path: str) -> NosanaError:
    """The error that an answer stands for. Of Nosana's texts, only a short `error` is repeated."""
    status, what = answer.status_code, path.partition("?")[0].rpartition("/")[2]
    body = cast("dict[str, Any]", body) if isinstance(body := _json(answer), dict) else {}
    said = one_line(str(body.get("error") or body.get("message") or ""), 200)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return NosanaRefused("Nosana does not accept the key; check NOSANA_API_KEY.")
    if status == HTTPStatus.NOT_FOUND:
        return NosanaMissing(said or "Nosana found nothing there.")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        wait = answer.headers.get("retry-after", "")
        return NosanaAway(
            "Nosana limits how often it is called.", unsure=False, retry_after=float(wait) if wait.isdecimal() else 1
        )
    if _WRONG_STATE in said or _ARCHIVED in said:
        return WrongState(f"Nosana refused to {what} a deployment: {said}")
    if answer.is_server_error:
        return NosanaAway(f"Nosana answered {status} to {what}.", unsure=True)
    return NosanaRefused(f"Nosana refused {what} with {status}: {said or 'no reason given'}")


def _may_repeat(method: str, error: BaseException) -> bool:
    """Whether repeating the call is safe: a read always is, a change if it had no effect."""
    if not isinstance(error, NosanaAway) or (error.retry_after or 0) > _LONGEST_WAIT:
        return False
    return method == "GET" or not error.unsure


def _wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    retry_after = error.retry_after if isinstance(error, NosanaAway) else None
    return retry_after if retry_after is not None else tenacity.wait_random_exponential(multiplier=0.3, max=5)(state)


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json() if answer.content else {}
    except ValueError:
        return {}


def _part(answer: Any, name: str) -> Any:
    if not isinstance(answer, dict) or name not in answer:
        raise NosanaAway(f"Nosana's answer lacks {name}.", unsure=True)
    return cast("dict[str, Any]", answer)[name]


def _read(kind: type[T], answer: Any) -> T:
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        faults = ", ".join(".".join(map(str, fault["loc"])) for fault in error.errors(include_input=False))
        raise NosanaAway(f"Nosana's {kind.__name__} could not be read: {faults}.", unsure=True) from None
