"""The Prefect server as rented machines reach it: one client for all, and whose its task runs and artifacts are."""

import logging
import re
from http import HTTPStatus
from typing import Any

import httpx

from infra.errors import SubmitError

logger = logging.getLogger(__name__)
_REMEMBERED = 10_000
_PREFECT = re.compile(r"prefect/\d+\.\d+\.\d+ \(API [\d.]{1,20}\)")


class PrefectServer:
    """Methods raise `SubmitError` when the server does not answer as it should, or none is named."""

    def __init__(self, api_url: str | None) -> None:
        self._client = httpx.AsyncClient(base_url=f"{(api_url or 'http://prefect.invalid').rstrip('/')}/", timeout=30)
        self._owners: dict[str, str | None] = {}

    async def ask(self, method: str, path: str, body: Any = None, agent: str | None = None) -> httpx.Response:
        """Its answer, refusals included. `agent` names the client: what it cannot do, the server does itself."""
        named = {"user-agent": agent} if agent and _PREFECT.fullmatch(agent) else {}
        try:
            answer = await self._client.request(method, path, json=body, headers=named)
        except httpx.HTTPError as error:
            raise SubmitError(f"The Prefect server did not answer ({type(error).__name__}).") from None
        if answer.is_server_error:
            raise SubmitError(f"The Prefect server answered {answer.status_code}.")
        return answer

    async def owner(self, kind: str, identifier: str) -> str | None:
        """The flow run that a task run or an artifact belongs to; None for one that is not there yet."""
        name = f"{kind}/{identifier}"
        if name not in self._owners:
            answer = await self.ask("GET", name)
            if answer.status_code == HTTPStatus.NOT_FOUND:
                return None
            if len(self._owners) >= _REMEMBERED:
                self._owners.clear()
            self._owners[name] = answer.json().get("flow_run_id") or "" if answer.is_success else ""
        return self._owners[name]

    async def close(self) -> None:
        await self._client.aclose()
