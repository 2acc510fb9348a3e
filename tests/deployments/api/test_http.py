"""What every route has in common: CORS, limits, framework errors, failures, logs and imports."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import SecretStr

from deployments.api.guards import BODY_BYTES
from infra.local.services import Service
from infra.local.stack import LocalStack
from tests.deployments.api.conftest import ORIGIN, REQUEST, TOKEN, free_port, server_environment

FOREIGN = "https://evil.example"
NO_REDIS = SecretStr("redis://127.0.0.1:9/0")
STORE_UNAVAILABLE = {"detail": "job store unavailable"}


def raw(api, request: bytes, *, then: bytes = b"", wait: float = 0) -> bytes:
    """The whole response to raw bytes."""
    address = urlsplit(api.url)
    with socket.create_connection((address.hostname, address.port), timeout=15) as line:
        line.sendall(request)
        time.sleep(wait)
        if then:
            line.sendall(then)
        return b"".join(iter(lambda: line.recv(65536), b""))


@pytest.mark.parametrize("origin", [ORIGIN, "http://127.0.0.1:3000"])
def test_refusals_carry_the_cors_header(api, job_id, unknown_id, origin):
    headers = {"origin": origin}
    answers = {
        200: api.get(f"/api/jobs/{job_id}", headers=headers),
        400: api.post("/api/jobs", headers=headers),
        401: api.post("/api/callback/nosana", headers=headers),
        404: api.get(f"/api/jobs/{unknown_id}", headers=headers),
        405: api.client.delete("/api/jobs", headers=headers),
        409: api.get(f"/api/jobs/{job_id}/results", headers=headers),
        413: api.post("/api/jobs", content=bytes(BODY_BYTES + 1), headers=headers),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == origin
        assert "Origin" in answer.headers["vary"]


def test_another_origin_gets_no_cors_header(api, job_id):
    answer = api.get(f"/api/jobs/{job_id}", headers={"origin": FOREIGN})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/api/jobs", "/api/jobs/kk_x/start", "/api/callback/nosana", "/nowhere"])
@pytest.mark.parametrize("origin", [ORIGIN, FOREIGN, "null"])
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_preflights_succeed(api, path, origin, method):
    headers = {"access-control-request-method": method, "access-control-request-headers": "content-type, x-api-key"}
    answer = api.client.options(path, headers=headers | {"origin": origin})
    assert answer.is_success
    assert answer.headers.get("access-control-allow-origin") == (ORIGIN if origin == ORIGIN else None)
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "x-api-key" in answer.headers["access-control-allow-headers"]


def test_all_origins_are_allowed_if_configured(serve):
    api = serve(cors_origins=("*",))
    answer = api.post("/api/jobs", json=REQUEST, headers={"origin": FOREIGN, "sec-fetch-site": "cross-site"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")


def test_a_body_of_one_megabyte_is_accepted(api):
    body = json.dumps(REQUEST).encode()
    assert api.post("/api/jobs", content=body + b" " * (BODY_BYTES - len(body))).status_code == 200


@pytest.mark.parametrize("size", [BODY_BYTES + 1, 40 * BODY_BYTES])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_larger_body_is_413(api, size, streamed):
    body = iter([b"x" * 65536] * (size // 65536 + 1)) if streamed else b"x" * size
    answer = api.post("/api/jobs", content=body, headers={"origin": ORIGIN})
    assert (answer.status_code, answer.json()) == (413, {"detail": "body must not exceed 1 MB"})
    assert answer.headers["access-control-allow-origin"] == ORIGIN


def test_a_body_that_does_not_arrive_is_408(api, monkeypatch):
    monkeypatch.setattr("deployments.api.guards.BODY_SECONDS", 0.3)
    head = b"POST /api/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\nConnection: close\r\n\r\n{"
    answer = raw(api, head)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"body took too long to arrive" in answer


def test_a_trailing_slash_is_ignored_without_a_redirect(api, job_id):
    callback = {"json": {"job_id": job_id, "status": "RUNNING"}, "headers": {"x-callback-token": TOKEN}}
    for end in ("", "/"):
        assert api.post(f"/api/jobs{end}", json=REQUEST).status_code == 200
        assert api.get(f"/api/jobs/{job_id}{end}").json()["job_id"] == job_id
        assert api.post(f"/api/callback/nosana{end}", **callback).json() == {"ok": True}


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("PUT", "/api/jobs", 405, "method not allowed"),
        ("GET", "/api/callback/nosana", 405, "method not allowed"),
        ("DELETE", "/api/jobs", 405, "method not allowed"),
        ("GET", "/api/jobs/x/start", 405, "method not allowed"),
        ("OPTIONS", "/api/jobs", 405, "method not allowed"),
        ("GET", "/nowhere", 404, "not found"),
        ("GET", "/api", 404, "not found"),
        ("GET", "/docs", 404, "not found"),
        ("GET", "//evil.example/x", 404, "not found"),
    ],
)
def test_the_frameworks_errors_have_the_same_format(api, method, path, status, detail):
    answer = api.client.request(method, f"{api.url}{path}")
    assert (answer.status_code, answer.json()) == (status, {"detail": detail})


@pytest.mark.parametrize("path", ["", "/results", "/manifest"])
def test_head_answers_for_jobs_like_get(api, path):
    job_id = api.finished_job()
    head, got = api.client.head(f"/api/jobs/{job_id}{path}"), api.get(f"/api/jobs/{job_id}{path}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/"])
def test_head_answers_for_other_routes(api, path):
    assert api.client.head(path).status_code == 200


def test_an_internal_error_is_a_plain_500_with_cors(api, job_id, monkeypatch, caplog):
    def broken(_: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(api.jobs, "get", broken)
    answer = api.get(f"/api/jobs/{job_id}", headers={"origin": ORIGIN})
    assert (answer.status_code, answer.json()) == (500, {"detail": "internal error"})
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "ZeroDivisionError" in caplog.text


def test_every_job_route_is_503_without_redis(serve, unknown_id):
    api = serve(redis_url=NO_REDIS)
    answers = [
        api.create(),
        api.callback(unknown_id, "RUNNING"),
        api.post(f"/api/jobs/{unknown_id}/start"),
        api.post(f"/api/jobs/{unknown_id}/cancel"),
        api.post("/api/jobs", json=REQUEST, headers={"idempotency-key": "k"}),
        *(
            api.get(f"/api/jobs/{unknown_id}{path}", headers={"origin": ORIGIN})
            for path in ("", "/results", "/events", "/manifest", "/clips/clip_01.mp4")
        ),
        api.get("/metrics"),
    ]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(503, STORE_UNAVAILABLE)] * len(answers)
    assert answers[-2].headers["access-control-allow-origin"] == ORIGIN
    assert api.post("/api/jobs", json={}).status_code == 400


def test_the_api_recovers_with_redis(serve, embedded, tmp_path):
    """The same app before, during and after an outage of its Redis."""
    alone = embedded.model_copy(update={"data_dir": tmp_path / "data"})
    with LocalStack(alone, [Service.VALKEY]) as first:
        url = first.settings.redis_url
        api = serve(redis_url=url)
        job_id = api.new_job()
        assert api.job(job_id)["status"] == "QUEUED"
    answer = api.get(f"/api/jobs/{job_id}")
    assert (answer.status_code, answer.json()) == (503, STORE_UNAVAILABLE)
    with LocalStack(alone, [Service.VALKEY]) as again:
        assert again.settings.redis_url == url, "a service keeps its port"
        assert api.job(job_id)["status"] == "QUEUED"


def test_headers_cannot_be_injected(api):
    job_id = api.finished_job()
    answer = raw(
        api,
        f"GET /api/jobs/{job_id}/clips/clip_01.mp4%0d%0aset-cookie:x/download HTTP/1.1\r\n"
        f"Host: x\r\nOrigin: {ORIGIN}%0d%0aset-cookie: x\r\nConnection: close\r\n\r\n".encode(),
    )
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"set-cookie" not in answer.lower()


@pytest.fixture
def alone(servers, embedded, tmp_path) -> Iterator[tuple[str, Path]]:
    """`kangklip api` in a separate process: its address and its log file."""
    port = free_port()
    unbounded = {"MAX_QUEUED": "0", "MAX_QUEUED_PER_KEY": "0"}  # other tests leave waiting jobs
    environment = server_environment(servers.settings) | {"PORT": str(port)} | unbounded
    log = tmp_path / "server.log"
    command = [Path(sys.executable).with_name("kangklip"), "api"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=out, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 30
    while b"startup complete" not in log.read_bytes():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)
    yield url, log
    process.terminate()
    assert process.wait(20) is not None


@pytest.mark.parametrize("host", ["[", "[::1", "a b", "x:99999999", "\\", "é"])
def test_a_malformed_host_header_is_no_internal_error(api, host):
    answer = raw(api, f"GET /nowhere HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert answer.split()[1] in (b"400", b"404")


def test_requests_are_logged_as_json_without_secrets(api, alone):
    url, log = alone
    job_id = api.finished_job()
    results = httpx.get(f"{url}/api/jobs/{job_id}/results?token=query-secret", headers={"x-api-key": "header-secret"})
    httpx.get(f"{url}/nowhere/path-secret")
    httpx.post(f"{url}/api/jobs", json=REQUEST | {"video_url": "https://example.org/v?key=url-secret"})
    httpx.post(f"{url}/api/callback/nosana", json={}, headers={"x-callback-token": "token-secret"})
    until = time.monotonic() + 10
    while log.read_text().count('"request"') < 4 and time.monotonic() < until:
        time.sleep(0.05)  # the log line follows the response
    text = log.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    requests = [line for line in lines if line["message"] == "request"]
    assert [(line["method"], line["path"], line["status"]) for line in requests] == [
        ("GET", "/api/jobs/{job_id}/results", 200),
        ("GET", None, 404),
        ("POST", "/api/jobs", 502),
        ("POST", "/api/callback/nosana", 401),
    ]
    assert (requests[0]["job_id"], requests[1]["job_id"]) == (job_id, None)
    assert requests[2]["job_id"].startswith("kk_")
    assert all(line["ms"] > 0 and line["level"] == "info" and line["time"] for line in requests)
    assert results.json()["clips"][0]["download_url"] not in text
    for secret in ("-secret", TOKEN, "X-Amz"):
        assert secret not in text


def test_background_work_that_ends_is_logged(serve, caplog):
    async def broken() -> None:
        raise ZeroDivisionError

    api = serve(broken)
    assert api.get("/healthz").status_code == 200
    assert "A background task has failed" in caplog.text


def test_the_api_imports_no_media_code():
    heavy = {"cv2", "av", "numpy", "faster_whisper", "flows", "prefect", "litellm", "ctranslate2"}
    code = f"import sys, deployments.api.app; print(sorted({heavy!r} & set(m.partition('.')[0] for m in sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
