"""The entry point of the worker's image, in a process with a bare environment."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import tenacity

from deployments.api.rented_machine.redeem import NONCE
from deployments.image import container
from infra.errors import ApiUnreachable
from infra.granted.access import Access, access_of
from infra.nosana.diagnosis import UNREACHABLE
from infra.settings import load
from tests.folders import ROOT

ACCESS = {"url": "http://clips.example", "token": "kks_t", "job_id": "kk_x", "attempt": 2, "bucket": "b", "root": "r/"}


def run_container(tmp_path, environment):
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "COLUMNS": "200"} | environment
    command = [sys.executable, "-m", "deployments.image.container"]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def api():
    """An API with queued answers; `requests` holds the paths and bodies it received."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.server.requests.append((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
            answer = self.server.answers.pop(0)
            if answer is None:
                self.connection.close()
                return
            status, body = answer
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.answers = [], []
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "Correct the environment: R2_ENDPOINT is required"),
        ({"KANGKLIP_GRANT": "a-grant"}, "KANGKLIP_API_URL is missing"),
    ],
)
def test_a_bad_environment_is_reported_in_one_line(tmp_path, environment, words):
    done = run_container(tmp_path, environment)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert "a-grant" not in done.stdout + done.stderr


def test_a_refused_grant_is_reported_in_one_line_without_the_grant(tmp_path, api):
    api.answers.append((403, {"detail": "grant refused"}))
    done = run_container(tmp_path, {"KANGKLIP_GRANT": "a-grant", "KANGKLIP_API_URL": api.url})
    assert done.returncode == container.GRANT_REFUSED_STATUS
    assert "The grant was refused (403: grant refused). Start the job again." in " ".join(done.stderr.split())
    assert "a-grant" not in done.stdout + done.stderr


def test_exchanging_a_grant_is_retried_while_the_api_is_unavailable(api):
    api.answers += [(503, {"detail": "job store unavailable"}), (200, {"access": ACCESS})]
    access = container.redeem(f"{api.url}/", "a-grant")
    assert access.url == api.url
    first, second = api.requests
    assert first == second
    assert (first[0], first[1]["grant"]) == ("/api/worker/grant", "a-grant")


def test_retries_use_the_same_nonce_and_each_container_another(api):
    api.answers += [None, (504, {}), (200, {"access": ACCESS}), (200, {"access": ACCESS})]
    container.redeem(api.url, "a-grant")
    container.redeem(api.url, "a-grant")
    *nonces, other = [body["nonce"] for _, body in api.requests]
    assert len(set(nonces)) == 1
    assert NONCE.fullmatch(other)
    assert other not in nonces


@pytest.mark.parametrize("answer", [None, (503, {"detail": "job store unavailable"})])
def test_an_api_that_never_answers_is_distinguished_from_a_refused_grant(api, monkeypatch, answer):
    """The container's exit status tells the worker: another machine is rented when the API was away."""
    monkeypatch.setattr(container._post.retry, "stop", tenacity.stop_after_attempt(2))
    monkeypatch.setenv("KANGKLIP_API_URL", api.url)
    monkeypatch.setenv("KANGKLIP_GRANT", "a-grant")
    api.answers += [answer] * 4
    with pytest.raises(ApiUnreachable, match="did not answer"):
        container.redeem(api.url, "a-grant")
    with pytest.raises(SystemExit) as ended:
        container.main()
    assert (ended.value.code, len(api.requests)) == (UNREACHABLE, 4)


def test_the_runs_settings_hold_the_session_in_place_of_secrets(monkeypatch):
    access = Access.model_validate(ACCESS | {"llm_model": "small-model"})
    for name, value in container.environment(access).items():
        monkeypatch.setenv(name, value)
    configured = load()
    assert access_of(configured) == access
    assert configured.callback_url == "http://clips.example/api/callback/nosana"
    assert configured.callback_tokens == ("kks_t",)
    assert (configured.llm_model_name, configured.llm_api_base) == (
        "openai/small-model",
        "http://clips.example/api/worker/llm",
    )
    assert "LLM_MODEL_NAME" not in container.environment(access.model_copy(update={"llm_model": None}))
