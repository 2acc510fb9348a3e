"""A job's events: a Redis stream. The scripts that change a job append to it, and clients follow it."""

from collections.abc import AsyncGenerator, Iterator
from typing import Any, cast

import redis.asyncio

from infra.jobs.connection import Connection, state_errors
from infra.jobs.keys import events_key, job_key
from infra.states import JobState

_WAIT_MS = 5000

Event = tuple[str, dict[str, str]]
"""An event's id and its fields."""


class JobEvents:
    """Reads the events of jobs, oldest first. Every method raises `StateError` if Redis does not answer."""

    def __init__(self, connection: Connection) -> None:
        self._url = connection.url
        self._redis = connection.client

    def read(self, job_id: str, after: str = "0", block_seconds: float = 1.0) -> Iterator[Event]:
        """Yield the events after the id `after`. Ends when none arrives within `block_seconds`."""
        while True:
            with state_errors():
                answer = self._redis.xread({events_key(job_id): after}, count=100, block=int(block_seconds * 1000))
            events = _events(answer)
            if not events:
                return
            yield from events
            after = events[-1][0]

    async def follow(self, job_id: str, after: str = "0") -> AsyncGenerator[Event]:
        """Yield the events after the id `after` as they arrive.

        Ends when an attempt or a recut ends, or the job is deleted.
        """
        async with self._own_client() as client:
            last = after
            while True:
                with state_errors():
                    answer = await client.xread({events_key(job_id): last}, count=100, block=_WAIT_MS)
                for event_id, fields in _events(answer):
                    last = event_id
                    yield event_id, fields
                    if is_end(fields):
                        return
                with state_errors():
                    if not await client.hexists(job_key(job_id), "job_id"):
                        return

    def last_id(self, job_id: str) -> str:
        """The id of the newest event, or "0" if there is none."""
        with state_errors():
            newest = cast("list[Event]", self._redis.xrevrange(events_key(job_id), count=1))
        return newest[0][0] if newest else "0"

    def _own_client(self) -> Any:
        """An asynchronous client for one follower, because waiting blocks its connection."""
        return redis.asyncio.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            self._url, decode_responses=True, socket_connect_timeout=3, socket_timeout=_WAIT_MS / 1000 + 10
        )


def is_end(fields: dict[str, str]) -> bool:
    """Whether an event is the end of an attempt or of a recut."""
    state = fields.get("recut_state") or fields["status"]
    return state in (JobState.SUCCEEDED, JobState.FAILED)


def _events(answer: list[tuple[str, list[Event]]]) -> list[Event]:
    """The events in the reply to XREAD on one stream."""
    return answer[0][1] if answer else []
