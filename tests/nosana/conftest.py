"""A double of Nosana for each test, and a client of it."""

from asyncio import run
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from pydantic import SecretStr

from infra.nosana.client import NosanaClient
from tests.nosana.double import KEY, NosanaDouble

T = TypeVar("T")
CallClient = Callable[[Callable[[NosanaClient], Coroutine[Any, Any, T]]], T]


@pytest.fixture
def nosana() -> Iterator[NosanaDouble]:
    with NosanaDouble(minute=0.3) as running:
        yield running


@pytest.fixture
def call_client(nosana: NosanaDouble) -> CallClient[Any]:
    """Runs `what(client)` and returns its result; `key` may be another API key."""

    def call(what: Callable[[NosanaClient], Coroutine[Any, Any, T]], key: str = KEY) -> T:
        async def connected() -> T:
            async with NosanaClient(nosana.url, SecretStr(key)) as client:
                return await what(client)

        return run(connected())

    return call
