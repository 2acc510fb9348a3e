"""Limits the API's open connections, and how long it waits for clients that send or read nothing.

By default, uvicorn accepts every connection and waits forever for request heads and slow readers. Idle clients could
use up the file descriptors that Redis and the bucket need.
"""

import asyncio
import resource
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from infra.settings import Settings

HEAD_SECONDS = 10.0
"""How long a request's head may take to arrive in full."""
UNREAD_SECONDS = 60.0
READ_BYTES = 64 * 1024
"""A client with an unread response must read this many bytes per `UNREAD_SECONDS`, or all that is left."""
BACKLOG = 128
"""Connections waiting to be accepted. The event loop may accept all of them before it closes any."""
MAX_CONNECTIONS = 4096
MESSAGE_BYTES = 1024 * 1024
"""Largest websocket message. As for any body, it is read before the sender is authenticated."""
_MAX_FILES = 20_000
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 5\r\n"
    b'content-length: 52\r\nconnection: close\r\n\r\n{"detail":"too many connections; try again shortly"}'
)


def files_allowed() -> int:
    """File descriptors that this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_FILES if soft == resource.RLIM_INFINITY else min(soft, _MAX_FILES)


def connections_allowed() -> int:
    """Two fifths of the descriptors: each request may need another one for Redis or the bucket."""
    return max(min(files_allowed() * 2 // 5, MAX_CONNECTIONS), 8)


def streams_allowed() -> int:
    """How many event streams may be open at once; also the limit for clips, and for websockets."""
    return max(files_allowed() // 8, 4)


def server_options(configured: Settings) -> dict[str, Any]:
    """uvicorn's options for serving the API.

    By default, uvicorn trusts X-Forwarded-For from any local process; here it trusts only `TRUSTED_PROXIES`.
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
    """uvicorn's HTTP/1.1 protocol with timeouts for slow clients and a limit on open connections.

    At the limit, a new connection replaces the one that has been idle longest. If none is idle, the new one gets a 503.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None
    idle_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self.idle_since = self.loop.time()
        if len(self.connections) > connections_allowed() and not self._drop_idle():
            transport.write(_FULL)
            self._close()
        else:
            self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._stop_read_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.is_idle:
            self._start_head_timer()
        else:
            self._stop_head_timer()

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._stop_head_timer()
        self._stop_read_timer()
        super().handle_websocket_upgrade(event)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_read_timer()

    def resume_writing(self) -> None:
        self._stop_read_timer()
        super().resume_writing()

    def on_response_complete(self) -> None:
        self.idle_since = self.loop.time()
        super().on_response_complete()
        if self.transport.is_closing():
            self._start_read_timer()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._close()

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered on this connection."""
        return self.cycle is None or self.cycle.response_complete

    def _start_head_timer(self) -> None:
        if self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._close)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _close(self) -> None:
        """Close the connection once everything is sent, or its client stops reading."""
        self.transport.close()
        self._start_read_timer()

    def _start_read_timer(self) -> None:
        if self._read_timer is None:
            unread = self.transport.get_write_buffer_size()
            self._read_timer = self.loop.call_later(UNREAD_SECONDS, self._check_reader, unread)

    def _check_reader(self, unread_before: int) -> None:
        """Drop a client that reads too slowly; otherwise restart the timer."""
        self._read_timer = None
        unread = self.transport.get_write_buffer_size()
        if unread > max(unread_before - READ_BYTES, 0):
            self.transport.abort()
        elif unread:
            self._start_read_timer()

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _drop_idle(self) -> bool:
        """Drop the connection that has been idle longest; return False if none is idle."""
        others = [other for other in self.connections if isinstance(other, BoundedProtocol) and other is not self]
        idle = [other for other in others if other.is_idle]
        if not idle:
            return False
        longest = min(idle, key=lambda other: other.idle_since)
        self.connections.discard(longest)
        longest.transport.abort()
        return True
