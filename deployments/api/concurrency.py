"""Bounds on concurrent streams, in total and per client."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager


class NoPlace(Exception):
    """All places are taken; `own` says whether by the client itself."""

    def __init__(self, *, own: bool) -> None:
        super().__init__("no place is free")
        self.own = own


class Places:
    """At most `most` places in total and `most_each` per client. Not thread-safe: use it from one event loop."""

    def __init__(self, most: int, most_each: int) -> None:
        self._most, self._most_each = most, most_each
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, client: str) -> Generator[None]:
        """Hold a place.

        Raises:
            NoPlace: none is free.
        """
        if self._taken[client] >= self._most_each:
            raise NoPlace(own=True)
        if self._taken.total() >= self._most:
            raise NoPlace(own=False)
        self._taken[client] += 1
        try:
            yield
        finally:
            self._taken[client] -= 1
            if not self._taken[client]:
                del self._taken[client]
