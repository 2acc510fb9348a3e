"""The client of an API that is broken, or hostile: every answer ends in one sentence."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deployments.api_client import ApiClient
from infra.errors import ApiUnreachable

JOB = "kk_" + "0" * 26
CALLS = {
    "create": lambda api, _: api.create({}),
    "job": lambda api, _: api.job(JOB),
    "jobs": lambda api, _: api.jobs(3),
    "clips": lambda api, _: api.clips(JOB),
    "follow": lambda api, _: api.follow(JOB, lambda *_: None),
    "download": lambda api, folder: api.download(JOB, folder / "clips"),
}


@contextmanager
def answering(status, body, headers=()):
    """A server that answers everything alike."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **dict(headers)}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        do_GET = do_POST = do_PATCH = do_HEAD = answer  # noqa: N815 - names of the base class

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b"null", b'{"job_id": "../../etc"}', b'{"clips": 7, "jobs": {}}', b"[" * 100_000],
    ids=["nothing", "a page", "list", "empty", "null", "id", "kinds", "depth"],
)
def test_an_answer_that_is_not_the_apis_is_named(call, body, tmp_path):
    with answering(200, body) as url, pytest.raises(ApiUnreachable, match="does not answer as KangKlip's API does"):
        CALLS[call](ApiClient(url, pauses=()), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"location": "https://example.org/api/uploads/" + "0" * 32},
        {"location": "/api/uploads/../../etc"},
        {"location": "/api/uploads/" + "0" * 32},
        {"location": "/api/uploads/" + "0" * 32, "upload-offset": "0"},
        {"location": "/api/uploads/" + "0" * 32, "upload-offset": "-1"},
        {"location": "/api/uploads/" + "0" * 32, "upload-offset": "9" * 5000},
        {"location": "/api/uploads/" + "0" * 32, "upload-offset": "eight"},
    ],
    ids=["none", "elsewhere", "above", "no offset", "no progress", "negative", "too long", "word"],
)
def test_an_upload_ends_when_the_server_does_not_say_how_far_it_is(headers, tmp_path):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"a film")
    with answering(200, b"", headers) as url, pytest.raises(ApiUnreachable, match="does not answer as KangKlip's"):
        ApiClient(url, pauses=()).upload(film, lambda *_: None)
