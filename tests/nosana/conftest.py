"""A double of Nosana for each test, and the client over it."""

from asyncio import run
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from pydantic import SecretStr

from infra.nosana.client import NosanaClient
from tests.nosana.double import KEY, NosanaDouble

T = TypeVar("T")
Ask = Callable[[Callable[[NosanaClient], Coroutine[Any, Any, T]]], T]


@pytest.fixture
def nosana() -> Iterator[NosanaDouble]:
    with NosanaDouble(minute=0.3) as running:
        yield running


@pytest.fixture
def ask(nosana: NosanaDouble) -> Ask[Any]:
    """Runs `what(client)` to its end; another key may be given."""

    def asked(what: Callable[[NosanaClient], Coroutine[Any, Any, T]], key: str = KEY) -> T:
        async def whole() -> T:
            async with NosanaClient(nosana.url, SecretStr(key)) as client:
                return await what(client)

        return run(whole())

    return asked
