"""An HTTP server on loopback that serves media well and badly, and a fake internet that leads to it."""

import asyncio
import re
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from tasks.engines.source.egress import Network

PUBLIC = "93.184.216.34"
"""Stands for any public address; connections to it go to the test's server."""


class MediaServer:
    """Context manager. `pages` maps a path without its query to the function that answers it."""

    def __init__(self) -> None:
        self.pages: dict[str, Callable[[Request], None]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.request_counts: Counter[str] = Counter()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def use_tls(self, context: ssl.SSLContext) -> None:
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(Request):
            media_server = server

        return Handler

    def network(self, hosts: dict[str, list[str]] | None = None) -> Network:
        """A network in which `media.example` is this server, behind a public address, on any port."""
        names = {"media.example": [PUBLIC], **(hosts or {})}

        async def resolve(host: str, port: int) -> list[str]:
            if host in names:
                return names[host]
            with suppress(OSError):
                return [
                    socket.inet_ntoa(socket.inet_aton(host))
                ]  # as getaddrinfo reads 2130706433, 0x7f.1, 017700000001
            if ":" in host:
                return [host]
            raise socket.gaierror(socket.EAI_NONAME, "unknown")

        async def dial(address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await asyncio.open_connection("127.0.0.1", self.port)

        return Network(resolve, dial)


class Request(BaseHTTPRequestHandler):
    """A request and ways to answer it."""

    media_server: MediaServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.media_server.requests.append((self.path, dict(self.headers)))
        self.media_server.request_counts[path] += 1
        page = self.media_server.pages.get(path)
        with suppress(BrokenPipeError, ConnectionResetError):
            if page is None:
                self.status(404)
            else:
                page(self)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def head(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if length is None:
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def status(self, status: int, **headers: str) -> None:
        self.head(status, 0, **headers)


def file(
    body: bytes,
    content_type: str | None = "video/mp4",
    *,
    ranges: bool = True,
    etag: str | None = None,
    disposition: str | None = None,
) -> Callable[[Request], None]:
    """Serves a file, with or without ranges, content type, ETag and Content-Disposition."""
    sent = {"Content_Type": content_type, "ETag": etag, "Content_Disposition": disposition}
    headers = {name: value for name, value in sent.items() if value}

    def page(request: Request) -> None:
        requested = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", "")) if ranges else None
        if requested is None:
            request.head(200, len(body), **headers)
            request.wfile.write(body)
            return
        start, end = int(requested[1]), min(int(requested[2] or len(body) - 1), len(body) - 1)
        if start >= len(body):
            request.status(416, Content_Range=f"bytes */{len(body)}")
            return
        request.head(206, end + 1 - start, Content_Range=f"bytes {start}-{end}/{len(body)}", **headers)
        request.wfile.write(body[start : end + 1])

    return page


def html(body: str) -> Callable[[Request], None]:
    return file(f"<!doctype html><html>{body}</html>".encode(), "text/html", ranges=False)


def status(code: int) -> Callable[[Request], None]:
    return lambda request: request.status(code)


def redirect(to: str) -> Callable[[Request], None]:
    return lambda request: request.status(302, Location=to)


def at_first(times: int, bad: Callable[[Request], None], good: Callable[[Request], None]) -> Callable[[Request], None]:
    """Serves the bad page for the first `times` requests, then the good one."""
    requests = Counter[str]()

    def page(request: Request) -> None:
        requests["times"] += 1
        (bad if requests["times"] <= times else good)(request)

    return page


def endless(request: Request) -> None:
    """Serves a video without end."""
    request.head(200, None, Content_Type="video/mp4")
    while True:
        request.wfile.write(bytes(64 * 1024))


def trickle(body: bytes) -> Callable[[Request], None]:
    """Serves a video slowly, but never slowly enough for a socket to time out."""

    def page(request: Request) -> None:
        request.head(200, len(body), Content_Type="video/mp4")
        for start in range(0, len(body), 64):
            request.wfile.write(body[start : start + 64])
            time.sleep(0.2)

    return page


def truncated(body: bytes, share: float = 0.5) -> Callable[[Request], None]:
    """Serves a video that ends before its announced length."""

    def page(request: Request) -> None:
        request.head(200, len(body), Content_Type="video/mp4")
        request.wfile.write(body[: int(len(body) * share)])
        request.close_connection = True

    return page


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate of `media.example` and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subject = ("-subj", "/CN=media.example", "-addext", "subjectAltName=DNS:media.example", "-days", "2")
    make = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    subprocess.run([*make, *subject, "-keyout", key, "-out", cert], check=True, capture_output=True, timeout=60)
    return cert, key
