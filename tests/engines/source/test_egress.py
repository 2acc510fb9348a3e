"""The egress proxy, tested with plain HTTP clients and raw sockets."""

import base64
import http.client
import os
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tasks.engines.source.egress import EgressProxy, Network, system_resolve
from tests import media_server as serve
from tests.media_server import PUBLIC, MediaServer, certificate

BODY = bytes(range(256)) * 40


@pytest.fixture
def server() -> Iterator[MediaServer]:
    with MediaServer() as running:
        running.pages["/file"] = serve.file(BODY)
        yield running


def authorization(proxy: EgressProxy) -> dict[str, str]:
    parts = urlsplit(proxy.url)
    return {"Proxy-Authorization": "Basic " + base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()}


def request(
    proxy: EgressProxy, url: str, headers: dict[str, str] | None = None, body: bytes | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    try:
        headers = authorization(proxy) if headers is None else headers
        connection.request("POST" if body else "GET", url, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def send_raw(proxy: EgressProxy, request: bytes) -> bytes:
    """The whole response to raw bytes."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        client.sendall(request)
        answer = b""
        try:
            while chunk := client.recv(65536):
                answer += chunk
        except ConnectionResetError:
            pass
        return answer


def test_a_public_host_is_reached(server: MediaServer) -> None:
    with EgressProxy(network=server.network()) as proxy:
        assert request(proxy, "http://media.example/file?a=b%2Fc") == (200, BODY)
    path, headers = server.requests[0]
    assert path == "/file?a=b%2Fc"
    assert headers["Host"] == "media.example"
    assert "Proxy-Authorization" not in headers
    assert proxy.traffic.bytes_in == len(BODY)


def test_a_closed_port_and_a_silent_host_are_distinguished(server: MediaServer) -> None:
    async def refuses(address: str, port: int):
        raise ConnectionRefusedError

    async def is_silent(address: str, port: int):
        raise TimeoutError

    resolve = server.network().resolve
    for dial, status, closed in ((refuses, 502, ["media.example at port 80"]), (is_silent, 504, [])):
        with EgressProxy(network=Network(resolve, dial)) as proxy:
            assert request(proxy, "http://media.example/file")[0] == status
        assert proxy.traffic.closed_ports == closed


def test_clients_without_the_password_are_refused(server: MediaServer) -> None:
    with EgressProxy(network=server.network()) as proxy:
        assert request(proxy, "http://media.example/file", headers={})[0] == 407
        assert (
            request(proxy, "http://media.example/file", headers={"Proxy-Authorization": "Basic a2FuZ2tsaXA6"})[0] == 407
        )
        assert send_raw(proxy, b"CONNECT media.example:443 HTTP/1.1\r\nHost: media.example\r\n\r\n").startswith(
            b"HTTP/1.1 407"
        )
    assert server.requests == []
    assert not proxy.traffic.refused


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0177.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "0",
        "169.254.169.254",
    ],
)
def test_private_hosts_are_refused_as_the_system_resolves_them(server: MediaServer, host: str) -> None:
    """With the real resolver and a port that answers, so that only the check refuses."""
    with EgressProxy() as proxy:
        assert request(proxy, f"http://{host}:{server.port}/file")[0] == 403
        connect = f"CONNECT {host}:{server.port} HTTP/1.1\r\n{_header_lines(authorization(proxy))}\r\n"
        assert send_raw(proxy, connect.encode()).startswith(b"HTTP/1.1 403")
    assert server.requests == []
    assert len(proxy.traffic.refused) == 2


def _header_lines(headers: dict[str, str]) -> str:
    return "Host: media.example\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())


def test_private_hosts_are_reachable_if_allowed(server: MediaServer) -> None:
    with EgressProxy(allow_private=True) as proxy:
        assert request(proxy, f"http://127.0.0.1:{server.port}/file") == (200, BODY)


def test_the_checked_address_is_the_one_dialled(server: MediaServer) -> None:
    """A name is resolved once per request, so a rebound name cannot pass the check."""
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    dialled: list[str] = []
    own = server.network()

    async def resolve(host: str, port: int) -> list[str]:
        return next(answers)

    async def dial(address: str, port: int):
        dialled.append(address)
        return await own.dial(address, port)

    with EgressProxy(network=Network(resolve, dial)) as proxy:
        assert request(proxy, "http://rebind.example/file")[0] == 200
        assert request(proxy, "http://rebind.example/file")[0] == 403
    assert dialled == [PUBLIC]


def test_one_private_address_among_public_ones_is_refused(server: MediaServer) -> None:
    with EgressProxy(network=server.network({"two.example": [PUBLIC, "10.0.0.1"]})) as proxy:
        assert request(proxy, "http://two.example/file")[0] == 403


def test_the_next_address_is_tried_after_a_failure(server: MediaServer) -> None:
    own = server.network()

    async def resolve(host: str, port: int) -> list[str]:
        return ["1.1.1.1", PUBLIC]

    async def dial(address: str, port: int):
        if address == "1.1.1.1":
            raise ConnectionRefusedError
        return await own.dial(address, port)

    with EgressProxy(network=Network(resolve, dial)) as proxy:
        assert request(proxy, "http://two.example/file") == (200, BODY)


@pytest.mark.parametrize(
    "url",
    [
        "http://media.example:22/",
        "http://media.example:25/",
        "ftp://media.example/file",
        "file:///etc/passwd",
        "gopher://media.example/",
    ],
)
def test_other_ports_and_schemes_are_refused(server: MediaServer, url: str) -> None:
    with EgressProxy(network=server.network()) as proxy:
        assert request(proxy, url)[0] == 403
    assert server.requests == []
    assert len(proxy.traffic.refused) == 1


def test_unknown_hosts_are_recorded(server: MediaServer) -> None:
    with EgressProxy(network=server.network()) as proxy:
        assert request(proxy, "http://nowhere.example/")[0] == 502
    assert proxy.traffic.unknown_hosts == ["nowhere.example"]


def test_the_byte_budget_is_enforced(server: MediaServer) -> None:
    server.pages["/endless"] = serve.endless
    with EgressProxy(network=server.network(), max_bytes=500_000) as proxy:
        got = send_raw(
            proxy,
            f"GET http://media.example/endless HTTP/1.1\r\n{_header_lines(authorization(proxy))}\r\n".encode(),
        )
        assert len(got) < 700_000
        assert proxy.traffic.over_budget
        with pytest.raises(OSError, match=r".*"):
            request(proxy, "http://media.example/file")


def test_a_connection_carries_one_request(server: MediaServer) -> None:
    """A second request on the same connection must not reach the first host."""
    with EgressProxy(network=server.network()) as proxy:
        first = f"GET http://media.example/file HTTP/1.1\r\n{_header_lines(authorization(proxy))}\r\n"
        second = "GET http://127.0.0.1/secret HTTP/1.1\r\nHost: other\r\nCookie: secret\r\n\r\n"
        answer = send_raw(proxy, (first + second).encode())
    assert answer.endswith(BODY)
    assert b"Connection: close" in answer
    assert [path for path, _ in server.requests] == ["/file"]


def test_bodies_are_forwarded(server: MediaServer) -> None:
    bodies: list[bytes] = []

    def page(request: serve.Request) -> None:
        bodies.append(request.rfile.read(int(request.headers["Content-Length"])))
        request.status(204)

    server.pages["/post"] = page
    with EgressProxy(network=server.network()) as proxy:
        assert request(proxy, "http://media.example/post", body=b"x" * 100_000)[0] == 204
    assert bodies == [b"x" * 100_000]


def test_a_truncated_response_is_reset(server: MediaServer) -> None:
    """Without a length, only a reset shows the client that data is missing."""

    def page(request: serve.Request) -> None:
        request.head(200, None)
        request.wfile.write(BODY)
        request.wfile.flush()
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        os.close(request.connection.detach())  # with zero linger, closing resets

    server.pages["/half"] = page
    with EgressProxy(network=server.network()) as proxy, pytest.raises(ConnectionResetError):
        request(proxy, "http://media.example/half")


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"CONNECT x HTTP/1.1\r\n\r\n",
        b"\xff\xfe \xff HTTP/1.1\r\n\r\n",
        b"A" * 100_000,
    ],
)
def test_malformed_requests_do_not_end_the_proxy(server: MediaServer, request_: bytes) -> None:
    with EgressProxy(network=server.network()) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
            client.sendall(request_)
        assert request(proxy, "http://media.example/file") == (200, BODY)


@pytest.mark.parametrize(
    "fields",
    [
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: +1\r\n",
        "Content-Length : 1\r\n",
        "Transfer-Encoding: chunked, x\r\n",
        "Host: other.example\r\n",
    ],
)
def test_an_ambiguous_head_reaches_no_host(server: MediaServer, fields: str) -> None:
    with EgressProxy(network=server.network()) as proxy:
        lines = f"{fields}{_header_lines(authorization(proxy))}"
        assert send_raw(proxy, f"POST http://media.example/file HTTP/1.1\r\n{lines}\r\nx".encode()) == b""
    assert server.requests == []


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl for a certificate")
def test_tls_passes_through_unchanged(server: MediaServer, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inside.load_cert_chain(cert, key)
    server.use_tls(inside)
    outside = ssl.create_default_context(cafile=str(cert))
    with EgressProxy(network=server.network()) as proxy:
        connection = http.client.HTTPSConnection("127.0.0.1", proxy.port, context=outside, timeout=10)
        connection.set_tunnel("media.example", 443, headers=authorization(proxy))
        connection.request("GET", "/file")
        assert connection.getresponse().read() == BODY
        connection.close()


def test_clients_that_hang_up_cause_no_log(server: MediaServer, caplog: pytest.LogCaptureFixture) -> None:
    server.pages["/endless"] = serve.endless
    with EgressProxy(network=server.network()) as proxy:
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.sendall(
                    f"GET http://media.example/endless HTTP/1.1\r\n{_header_lines(authorization(proxy))}\r\n".encode()
                )
                client.recv(1000)
        assert request(proxy, "http://media.example/file") == (200, BODY)
    assert caplog.records == []


def _is_ended(client: socket.socket) -> bool:
    try:
        while client.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def test_closing_the_proxy_closes_its_connections(server: MediaServer) -> None:
    server.pages["/endless"] = serve.endless
    with EgressProxy(network=server.network()) as proxy:
        client = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
        client.sendall(
            f"GET http://media.example/endless HTTP/1.1\r\n{_header_lines(authorization(proxy))}\r\n".encode()
        )
        assert client.recv(100)
    with client:
        assert _is_ended(client)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=1)


def test_the_default_network_uses_the_systems_resolver() -> None:
    assert Network().resolve is system_resolve
