"""Limits on concurrent streams, in total and per client."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager


class LimitReached(Exception):
    """Too many streams are open; `by_client` says whether this client alone has reached its limit."""

    def __init__(self, *, by_client: bool) -> None:
        super().__init__("too many streams are open")
        self.by_client = by_client


class StreamLimit:
    """Allows `total` streams, and `per_client` of each client. Not thread-safe: use it from one event loop."""

    def __init__(self, total: int, per_client: int) -> None:
        self._total, self._per_client = total, per_client
        self._open: Counter[str] = Counter()

    @contextmanager
    def slot(self, client: str) -> Generator[None]:
        """Count a stream of the client while the block runs.

        Raises:
            LimitReached: too many streams are open.
        """
        if self._open[client] >= self._per_client:
            raise LimitReached(by_client=True)
        if self._open.total() >= self._total:
            raise LimitReached(by_client=False)
        self._open[client] += 1
        try:
            yield
        finally:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]
