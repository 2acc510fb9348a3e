"""A bound on what may go on at once, over all clients and for each of them."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager


class NoPlace(Exception):
    """All places are taken; `own` tells whether the client itself has taken them."""

    def __init__(self, *, own: bool) -> None:
        super().__init__("no place is free")
        self.own = own


class Places:
    """`most` in all and `most_each` for one client. For one event loop: nothing here is locked."""

    def __init__(self, most: int, most_each: int) -> None:
        self._most, self._most_each = most, most_each
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, client: str) -> Generator[None]:
        """Hold a place.

        Raises:
            NoPlace: there is none.
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
