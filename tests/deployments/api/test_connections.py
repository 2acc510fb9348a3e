"""Idle and slow connections: how long the server waits for them, and how many it allows."""

import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.deployments.api.conftest import REQUEST, free_port, server_environment
from tests.deployments.api.test_http import raw

IDLE = 1100
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@contextlib.contextmanager
def line_to(url: str) -> Iterator[socket.socket]:
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=15) as line:
        yield line


def ask(line: socket.socket) -> bytes:
    """Send a request and return its response; the connection stays open."""
    line.sendall(GET)
    answer = b""
    while not answer.endswith(b'{"ok":true}') and (more := line.recv(65536)):
        answer += more
    return answer


def seconds_until_closed(line: socket.socket) -> float:
    began = time.monotonic()
    with contextlib.suppress(ConnectionResetError):
        while line.recv(65536):
            pass
    return time.monotonic() - began


def seconds_of_trickle(line: socket.socket) -> float:
    """Seconds for which the server accepts single bytes, at most five."""
    began = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() - began < 5:
            line.sendall(b"a")
            time.sleep(0.05)
    return time.monotonic() - began


@pytest.fixture
def impatient_url(api, monkeypatch) -> str:
    monkeypatch.setattr("deployments.api.connections.HEAD_SECONDS", 0.4)
    return api.url


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost:"])
def test_a_connection_with_an_incomplete_head_is_closed(impatient_url, sent):
    with line_to(impatient_url) as line:
        line.sendall(sent)
        assert seconds_until_closed(line) < 3


def test_a_kept_alive_connection_with_an_incomplete_head_is_closed(impatient_url):
    with line_to(impatient_url) as line:
        assert ask(line).startswith(b"HTTP/1.1 200 ")
        line.sendall(b"G")
        assert seconds_until_closed(line) < 3


def test_trickling_bytes_do_not_extend_the_deadline(impatient_url):
    with line_to(impatient_url) as line:
        line.sendall(b"GET /healthz HTTP/1.1\r\nx: ")
        assert seconds_of_trickle(line) < 3


def test_a_body_that_no_handler_reads_does_not_hold_the_connection(impatient_url):
    head = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    with line_to(impatient_url) as line:
        line.sendall(head)
        assert seconds_of_trickle(line) < 3


@pytest.mark.parametrize("closes", [b"", b"Connection: close\r\n"])
def test_a_client_that_reads_no_response_does_not_hold_the_connection(api, job_id, monkeypatch, closes):
    monkeypatch.setattr("deployments.api.connections.UNREAD_SECONDS", 0.3)
    manifest = json.dumps({"clips": [], "filler": "a" * 1_000_000}).encode()
    api.bucket.put_bytes(f"jobs/{job_id}/manifest.json", manifest, "application/json")
    api.callback(job_id, "SUCCEEDED")
    head = b"GET /api/jobs/%s/manifest HTTP/1.1\r\nHost: x\r\n" % job_id.encode()
    with line_to(api.url) as line:
        line.sendall((head + b"\r\n") * 11 + head + closes + b"\r\n")
        time.sleep(2)  # the client reads nothing meanwhile
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while more := line.recv(1 << 20):
                received += len(more)
    assert received < 11 * len(manifest)


def test_a_response_may_take_longer_than_the_head_deadline(api, impatient_url, job_id, monkeypatch):
    monkeypatch.setattr("deployments.api.routes.events.PING_SECONDS", 0.2)
    with httpx.stream("GET", f"{api.url}/api/jobs/{job_id}/events") as stream:
        lines, began = stream.iter_lines(), time.monotonic()
        while time.monotonic() - began < 1.2:
            next(lines)
        api.callback(job_id, "FAILED")
        assert any("event: end" in line for line in lines)


def test_a_connection_can_be_reused(impatient_url):
    with line_to(impatient_url) as line:
        for _ in range(4):
            assert ask(line).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.2)


def test_a_new_connection_replaces_the_longest_idle_one(api, monkeypatch):
    monkeypatch.setattr("deployments.api.connections.connections_allowed", lambda: 5)
    with contextlib.ExitStack() as open_lines:
        lines = [open_lines.enter_context(line_to(api.url)) for _ in range(6)]
        for line in lines[-2:]:
            assert ask(line).startswith(b"HTTP/1.1 200 ")
        assert seconds_until_closed(lines[0]) < 2


def test_a_new_connection_is_503_when_all_others_are_busy(api, monkeypatch):
    head = b"POST /api/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\nConnection: close\r\n\r\n{"
    with contextlib.ExitStack() as open_lines:
        for _ in range(8):
            open_lines.enter_context(line_to(api.url)).sendall(head)
        time.sleep(0.3)  # until their heads are read
        monkeypatch.setattr("deployments.api.connections.connections_allowed", lambda: 8)
        answer = raw(api, b"")
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(b'{"detail":"too many connections; try again shortly"}')


@pytest.mark.parametrize("order", [0, 1])
def test_a_body_with_two_lengths_is_refused_and_its_connection_closed(api, order):
    lengths = [b"Content-Length: 4", b"Transfer-Encoding: chunked"][:: 1 if order else -1]
    smuggled = b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = raw(api, b"POST /api/jobs HTTP/1.1\r\nHost: x\r\n" + b"\r\n".join(lengths) + b"\r\n\r\n" + smuggled)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'{"detail":"content-length and transfer-encoding must not be combined"}' in answer
    assert b"connection: close" in answer.lower()
    assert answer.count(b"HTTP/1.1 ") == 1


def test_event_streams_are_limited_per_client(serve):
    api = serve(max_event_streams=3)
    job_id = api.new_job()
    path = f"{api.url}/api/jobs/{job_id}/events"
    with contextlib.ExitStack() as open_streams:
        streams = [open_streams.enter_context(httpx.stream("GET", path)) for _ in range(3)]
        assert [stream.status_code for stream in streams] == [200] * 3
        answer = api.get(path)
        assert (answer.status_code, answer.json()["detail"]) == (
            429,
            "too many event streams; close one, or poll the job instead",
        )
        assert answer.headers["retry-after"]
        other = httpx.HTTPTransport(local_address="127.0.0.8")
        with httpx.Client(transport=other) as client, client.stream("GET", path) as stream:
            assert stream.status_code == 200
    until = time.monotonic() + 10
    status = 429
    while status == 429 and time.monotonic() < until:  # a place comes free once the server notices the disconnect
        with httpx.stream("GET", path) as stream:
            status = stream.status_code
    assert status == 200


def test_open_clip_streams_are_limited(serve, monkeypatch):
    monkeypatch.setattr("deployments.api.dependencies.streams_allowed", lambda: 4)
    api = serve()
    job_id = api.new_job()
    api.bucket.put_bytes(f"jobs/{job_id}/clip_01.mp4", bytes(12_000_000), "video/mp4")
    api.bucket.put_json(f"jobs/{job_id}/manifest.json", {"clips": [{"file": "clip_01.mp4"}]})
    api.callback(job_id, "SUCCEEDED")
    path = f"{api.url}/api/jobs/{job_id}/clips/clip_01.mp4"
    with contextlib.ExitStack() as open_streams:
        for _ in range(2):
            assert open_streams.enter_context(httpx.stream("GET", path)).status_code == 200
        answer = api.get(path)
        assert (answer.status_code, answer.json()["detail"]) == (503, "too many streams are open; try again shortly")
        assert api.job(job_id)["status"] == "SUCCEEDED"


@pytest.fixture
def few_descriptors_url(servers, tmp_path) -> Iterator[str]:
    """`kangklip api` in a process limited to 1,024 open files."""
    port = free_port()
    unbounded = {"MAX_QUEUED": "0", "MAX_QUEUED_PER_KEY": "0", "CREATE_RATE_PER_MINUTE": "0"}  # others share Redis
    environment = os.environ | server_environment(servers.settings) | unbounded | {"PORT": str(port)}
    program = Path(sys.executable).with_name("kangklip")
    command = ["sh", "-c", f"ulimit -Sn 1024; exec {program} api"]
    with (tmp_path / "server.log").open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
    until = time.monotonic() + 60
    while b"startup complete" not in (tmp_path / "server.log").read_bytes():
        assert process.poll() is None, (tmp_path / "server.log").read_text()
        assert time.monotonic() < until
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    assert process.wait(20) is not None


def test_more_idle_connections_than_descriptors_block_nobody(few_descriptors_url):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    with contextlib.ExitStack() as open_lines:
        lines = [open_lines.enter_context(line_to(few_descriptors_url)) for _ in range(IDLE)]
        began = time.monotonic()
        for _ in range(5):
            assert httpx.get(f"{few_descriptors_url}/healthz", timeout=1).json() == {"ok": True}
        assert (
            httpx.post(f"{few_descriptors_url}/api/jobs", json=REQUEST, timeout=5).status_code == 502
        )  # Redis could be reached
        assert time.monotonic() - began < 5
        longest = max(seconds_until_closed(line) for line in lines[-20:])
        assert longest < 11
