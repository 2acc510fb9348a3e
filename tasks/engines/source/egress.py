"""A filtering HTTP proxy on loopback: the only way out for anything that fetches an untrusted URL.

It resolves names itself, refuses a host unless all its addresses are public, and connects to exactly the
address it checked, which prevents DNS rebinding. Clients need the run's password. The proxy also
enforces the run's byte budget, which no server or page can raise.
"""

import asyncio
import base64
import contextlib
import hmac
import secrets
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import NoReturn, Self
from urllib.parse import urlsplit

import h11

from tasks.core.source.addresses import is_public, is_web_port

Resolve = Callable[[str, int], Awaitable[list[str]]]
Dial = Callable[[str, int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

HEAD_LIMIT = 64 * 1024
CHUNK = 64 * 1024
HEAD_SECONDS = 30.0
CONNECT_SECONDS = 15.0
HOP_BY_HOP = frozenset({b"connection", b"proxy-connection", b"proxy-authorization", b"keep-alive", b"te", b"upgrade"})


@dataclass
class Traffic:
    """What the proxy observed: refusals with reasons, unknown hosts, closed ports, bytes received."""

    refused: list[str] = field(default_factory=list[str])
    unknown_hosts: list[str] = field(default_factory=list[str])
    closed_ports: list[str] = field(default_factory=list[str])
    bytes_in: int = 0
    over_budget: bool = False


class _RefusedError(Exception):
    """The request is refused; `status` and the message are the proxy's response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def system_resolve(host: str, port: int) -> list[str]:
    """All addresses of a host by the system's resolver, which also accepts decimal, octal and hex forms."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True)
class Network:
    """How to resolve names and connect to addresses: by the system, unless a test replaces it."""

    resolve: Resolve = system_resolve
    dial: Dial = asyncio.open_connection


SYSTEM = Network()


class EgressProxy:
    """Context manager: listens on a free loopback port while open.

    Once more than `max_bytes` have been received, all transfers are aborted and new ones refused.
    """

    def __init__(
        self,
        *,
        allow_private: bool = False,
        max_bytes: int | None = None,
        network: Network = SYSTEM,
    ) -> None:
        self.traffic = Traffic()
        self._allow_private = allow_private
        self._max_bytes = max_bytes
        self._network = network
        self._password = secrets.token_urlsafe(24)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="egress-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        """The client's proxy URL, password included: never log it."""
        return f"http://kangklip:{self._password}@127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=HEAD_LIMIT)
        self._port = self._server.sockets[0].getsockname()[1]

    def _abort_all(self) -> None:
        """Stop accepting connections and close the open ones."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _close(self) -> None:
        self._abort_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._loop.shutdown_default_executor()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a running coroutine has a task
        self._tasks.add(task)
        try:
            await self._answer(reader, writer)
        except _RefusedError as refusal:
            body = f"{refusal}\n".encode()
            writer.write(
                b"HTTP/1.1 %d Refused\r\nProxy-Authenticate: Basic realm=egress\r\nContent-Type: text/plain\r\n"
                b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (refusal.status, len(body), body)
            )
        except (
            OSError,
            ValueError,
            EOFError,
            asyncio.LimitOverrunError,
            asyncio.CancelledError,
            h11.RemoteProtocolError,
        ):
            _reset(writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = _request(await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_SECONDS))
        self._authenticate(request)
        target = request.target.decode("ascii")
        if request.method == b"CONNECT":
            host, port = _authority(target)
            upstream_reader, upstream = await self._connect(host, port)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await self._tunnel(reader, writer, upstream_reader, upstream)
            return
        host, port, path = self._absolute(target)
        upstream_reader, upstream = await self._connect(host, port)
        kept = [b"%s: %s" % (n, v) for n, v in request.headers.raw_items() if n.lower() not in HOP_BY_HOP]
        begin = b"%s %s HTTP/%s" % (request.method, path.encode("ascii"), request.http_version)
        upstream.write(b"\r\n".join([begin, *kept, b"Connection: close"]) + b"\r\n\r\n")
        await self._exchange(reader, writer, upstream_reader, upstream, _content_length(request))

    def _authenticate(self, request: h11.Request) -> None:
        expected = b"Basic " + base64.b64encode(f"kangklip:{self._password}".encode())
        received = next((value for name, value in request.headers if name == b"proxy-authorization"), b"")
        if not hmac.compare_digest(received, expected):
            raise _RefusedError(407, "proxy password required")

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the first address that answers, provided every address of the host is allowed."""
        if not is_web_port(port):
            self._refuse(host, f"at port {port}, which is not a web port")
        try:
            addresses = await asyncio.wait_for(self._network.resolve(host, port), CONNECT_SECONDS)
        except socket.gaierror as error:
            if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
                self.traffic.unknown_hosts.append(host)
            raise _RefusedError(502, f"{host} cannot be resolved") from None
        except (UnicodeError, TimeoutError):
            raise _RefusedError(502, f"{host} cannot be resolved") from None
        if not self._allow_private and not all(is_public(address) for address in addresses):
            self._refuse(host, "which is not a public address")
        is_closed = bool(addresses)
        for address in addresses:
            try:
                return await asyncio.wait_for(self._network.dial(address, port), CONNECT_SECONDS)
            except (OSError, TimeoutError) as error:
                is_closed = is_closed and isinstance(error, ConnectionRefusedError)
        if is_closed:
            self.traffic.closed_ports.append(f"{host} at port {port}")
            raise _RefusedError(502, f"nothing listens on {host} at port {port}")
        raise _RefusedError(504, f"{host} does not answer")

    def _absolute(self, target: str) -> tuple[str, int, str]:
        """Host, port and path with query of an absolute http URL."""
        parts = urlsplit(target)
        if parts.scheme != "http" or not parts.hostname or parts.username is not None:
            self._refuse(f"{parts.scheme}://{parts.hostname or ''}", "which is neither http nor https")
        path = target[len("http://") + len(parts.netloc) :]
        return parts.hostname, parts.port or 80, path if path.startswith("/") else f"/{path}"

    def _refuse(self, host: str, reason: str) -> NoReturn:
        self.traffic.refused.append(f"{host}, {reason}")
        raise _RefusedError(403, f"{host}, {reason}")

    async def _tunnel(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream_reader: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
    ) -> None:
        upload = asyncio.create_task(_pump(reader, upstream))
        try:
            await self._pump_in(upstream_reader, writer)
        finally:
            upload.cancel()
            upstream.close()

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream_reader: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
        body_bytes: int,
    ) -> None:
        """Forward one request and its response, and close the connection.

        Otherwise a client could send a request for another host over this connection. The response head
        bypasses h11, which rejects heads that the proxy's clients can read.
        """
        upload = asyncio.create_task(_pump(reader, upstream, body_bytes))
        try:
            head = await upstream_reader.readuntil(b"\r\n\r\n")
            status, *fields = head[:-4].split(b"\r\n")
            kept = [line for line in fields if line.partition(b":")[0].strip().lower() not in HOP_BY_HOP]
            writer.write(b"\r\n".join([status, *kept, b"Connection: close"]) + b"\r\n\r\n")
            await self._pump_in(upstream_reader, writer)
        finally:
            upload.cancel()
            upstream.close()

    async def _pump_in(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while chunk := await source.read(CHUNK):
            self.traffic.bytes_in += len(chunk)
            if self._max_bytes is not None and self.traffic.bytes_in > self._max_bytes:
                self.traffic.over_budget = True
                self._abort_all()
                raise ConnectionAbortedError("byte budget exceeded")
            sink.write(chunk)
            await sink.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Reset the connection, so that the client does not mistake a partial response for a complete one."""
    with contextlib.suppress(OSError):  # the client closed it first
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, count: int | None = None) -> None:
    """Forward `count` bytes, or everything until EOF and then half-close the sink."""
    left = count
    while left is None or left > 0:
        chunk = await source.read(CHUNK if left is None else min(CHUNK, left))
        if not chunk:
            break
        sink.write(chunk)
        await sink.drain()
        left = None if left is None else left - len(chunk)
    if count is None and sink.can_write_eof():
        sink.write_eof()


def _authority(target: str) -> tuple[str, int]:
    """Host and port of `host:port`, with IPv6 in brackets."""
    parts = urlsplit(f"//{target}")
    if not parts.hostname or parts.port is None or parts.username is not None:
        raise _RefusedError(400, "malformed authority")
    return parts.hostname, parts.port


def _request(head: bytes) -> h11.Request:
    """Parse a complete request head."""
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(head)
    event = parser.next_event()
    if not isinstance(event, h11.Request):
        raise h11.RemoteProtocolError("the head is not a request")
    return event


def _content_length(request: h11.Request) -> int:
    """Length of the request body in bytes."""
    fields = dict(request.headers)
    if b"transfer-encoding" in fields:
        raise _RefusedError(411, "a request body needs a length")
    return int(fields.get(b"content-length", b"0"))
