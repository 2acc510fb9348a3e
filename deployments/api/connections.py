"""Limits the API's open connections, and how long it waits for a client that sends or reads nothing.

By itself uvicorn waits forever for the head of a request and for a reader, and accepts every connection. Clients
that open connections and stay silent would use up the descriptors that Redis and the bucket need.
"""

import asyncio
import resource
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from infra.settings import Settings

HEAD_SECONDS = 10.0
"""How long the head of a request may take, however slowly its bytes arrive."""
UNREAD_SECONDS = 60.0
READ_BYTES = 64 * 1024
"""A client that leaves an answer unread must read this many bytes in `UNREAD_SECONDS`, or all that is left."""
BACKLOG = 128
"""Connections waiting to be accepted. The event loop may accept all of them before any other is closed."""
MOST_CONNECTIONS = 4096
MESSAGE_BYTES = 1024 * 1024
"""Largest websocket message, as for any body: it is read before its sender is known."""
_MOST_FILES = 20_000
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 5\r\n"
    b'content-length: 52\r\nconnection: close\r\n\r\n{"detail":"too many connections; try again shortly"}'
)


def files_allowed() -> int:
    """Descriptors that this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_FILES if soft == resource.RLIM_INFINITY else min(soft, _MOST_FILES)


def connections_allowed() -> int:
    """Two fifths of the descriptors: answering a request may take another one for Redis or the bucket."""
    return max(min(files_allowed() * 2 // 5, MOST_CONNECTIONS), 8)


def streams_allowed() -> int:
    """How many event streams may be open at once, and as many clips and as many websockets."""
    return max(files_allowed() // 8, 4)


def server_options(configured: Settings) -> dict[str, Any]:
    """uvicorn's options, wherever the API is served.

    By default uvicorn trusts X-Forwarded-For from any process on this machine; here it trusts only `TRUSTED_PROXIES`.
    """
    return {
        "http": BoundedProtocol,
        "backlog": BACKLOG,
        "ws_max_size": MESSAGE_BYTES,
        "ws_max_queue": 4,
        "proxy_headers": bool(configured.trusted_proxies),
        "forwarded_allow_ips": list(configured.trusted_proxies),
        "log_config": None,
        "access_log": False,
        "server_header": False,
    }


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with time limits for the head of a request and for reading the answer, and a bound on open
    connections.

    At the bound a new connection takes the place of the one that has been silent longest. When all of them are
    being answered, the new one gets a 503.
    """

    _head_due: asyncio.TimerHandle | None = None
    _read_due: asyncio.TimerHandle | None = None
    silent_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self.silent_since = self.loop.time()
        if len(self.connections) > connections_allowed() and not self._make_room():
            transport.write(_FULL)
            self._end()
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        self._all_read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.is_silent:
            self._await_head()
        else:
            self._head_came()

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._head_came()
        self._all_read()
        super().handle_websocket_upgrade(event)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        self._all_read()
        super().resume_writing()

    def on_response_complete(self) -> None:
        self.silent_since = self.loop.time()
        super().on_response_complete()
        if self.transport.is_closing():
            self._await_reader()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._end()

    @property
    def is_silent(self) -> bool:
        """Whether no request is being answered on this connection."""
        return self.cycle is None or self.cycle.response_complete

    def _await_head(self) -> None:
        if self._head_due is None and not self.transport.is_closing():
            self._head_due = self.loop.call_later(HEAD_SECONDS, self._end)

    def _head_came(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _end(self) -> None:
        """Close the connection once everything is sent, or once its client stops reading."""
        self.transport.close()
        self._await_reader()

    def _await_reader(self) -> None:
        if self._read_due is None:
            unread = self.transport.get_write_buffer_size()
            self._read_due = self.loop.call_later(UNREAD_SECONDS, self._check_reader, unread)

    def _check_reader(self, unread_before: int) -> None:
        """Drop a client that reads too little; wait again for one that is only slow."""
        self._read_due = None
        unread = self.transport.get_write_buffer_size()
        if unread > max(unread_before - READ_BYTES, 0):
            self.transport.abort()
        elif unread:
            self._await_reader()

    def _all_read(self) -> None:
        if self._read_due is not None:
            self._read_due.cancel()
            self._read_due = None

    def _make_room(self) -> bool:
        """Drop the connection that has been silent longest; return False if there is none."""
        others = [other for other in self.connections if isinstance(other, BoundedProtocol) and other is not self]
        silent = [other for other in others if other.is_silent]
        if not silent:
            return False
        longest = min(silent, key=lambda other: other.silent_since)
        self.connections.discard(longest)
        longest.transport.abort()
        return True
