"""Forwards the calls of rented machines to the Prefect server, and looks up which run a record belongs to."""

import re
from http import HTTPStatus
from typing import Any

import httpx

from infra.prefect import server

_MOST_OWNERS = 10_000
_PREFECT_AGENT = re.compile(r"prefect/\d+\.\d+\.\d+ \(API [\d.]{1,20}\)")


class PrefectForwarder:
    """Forwards calls for all rented machines. Methods raise `SubmitError` if no server is set, or if it fails."""

    def __init__(self, api_url: str | None) -> None:
        self._client = server.forwarding_client(api_url) if api_url else None
        self._owners: dict[str, str | None] = {}

    async def forward(self, method: str, path: str, body: Any = None, agent: str | None = None) -> httpx.Response:
        """Forward a call and return the server's response, including 4xx.

        Args:
            agent: the machine's User-Agent. The server adapts its responses to older Prefect clients.
        """
        if self._client is None:
            raise server.no_server_error()
        headers = {"user-agent": agent} if agent and _PREFECT_AGENT.fullmatch(agent) else {}
        try:
            answer = await self._client.request(method, path, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise server.no_answer_error(error) from None
        if answer.is_server_error:
            raise server.status_error(answer.status_code, path)
        return answer

    async def owner(self, kind: str, identifier: str) -> str | None:
        """The flow run of a task run or artifact: "" if it has none, None if the record does not exist yet."""
        name = f"{kind}/{identifier}"
        if name not in self._owners:
            answer = await self.forward("GET", name)
            if answer.status_code == HTTPStatus.NOT_FOUND:
                return None
            if len(self._owners) >= _MOST_OWNERS:
                self._owners.clear()
            self._owners[name] = answer.json().get("flow_run_id") or "" if answer.is_success else ""
        return self._owners[name]

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
