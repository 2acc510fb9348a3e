"""Serves the API on a loopback port with real Valkey and bucket; only the Prefect runs are a stand-in."""

import base64
import itertools
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from deployments.api.app import create_app
from deployments.api.connections import server_options
from deployments.api.dependencies import Services
from deployments.api.routes import uploads
from infra.bucket.store import ArtifactStore
from infra.errors import SubmitError
from infra.granted import grant as grants
from infra.granted.access import Access
from infra.granted.grant import Grant
from infra.jobs.events import JobEvents
from infra.jobs.ids import JOB_ID, new_job_id
from infra.jobs.record import Job, JobRef, Report
from infra.jobs.store import JobStore
from infra.settings import Settings
from infra.states import JobState
from tasks.core.object_keys import job_key
from tasks.core.request import ClipRequest

TOKEN, NEXT_TOKEN = "first-token", "tøken-two"
GRANT_SECRET = "a secret of thirty-two letters at least"
FLOW, DEPLOYMENT = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
KEYS, OPERATOR = ("key-one", "key-two"), "the-operator"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"a" * 32).decode()
ORIGIN = "http://localhost:3000"
REQUEST = {
    "video_url": "https://example.org/talk.mp4",
    "clip_duration_seconds": 45,
    "clip_count": 3,
    "language": "en",
}
CLIP = bytes(itertools.islice(itertools.cycle(range(251)), 300_000))


class Runs:
    """Stands in for PrefectRuns: keeps one run per attempt and asserts that the flow would accept its request."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], dict[str, Any]] = {}
        self.ids: dict[tuple[str, int], str] = {}
        self.submit_options: dict[tuple[str, int], tuple[str | None, float | None]] = {}
        self.recuts: dict[tuple[str, int, int], str | None] = {}
        self.rented_recuts: dict[tuple[str, int], bool] = {}
        self.cancelled: list[str] = []
        self.states: dict[str, str] = {}
        self.fault: str | None = None

    def submit(
        self,
        job_id: str,
        attempt: int,
        request: dict[str, Any],
        earlier_run_id: str | None = None,
        since: float | None = None,
    ) -> str:
        self.ping()
        self.submit_options[job_id, attempt] = (earlier_run_id, since)
        assert JOB_ID.fullmatch(job_id)
        assert ClipRequest.model_validate(request)
        assert self.requests.setdefault((job_id, attempt), request) == request
        return self.ids.setdefault((job_id, attempt), str(uuid.uuid4()))

    def submit_recut(
        self,
        job_id: str,
        revision: int,
        attempt: int,
        earlier_run_id: str | None = None,
        *,
        is_rented: bool = False,
    ) -> str:
        self.ping()
        self.rented_recuts[job_id, revision] = is_rented
        self.recuts[job_id, revision, attempt] = earlier_run_id
        return self.ids.setdefault((f"{job_id}:{revision}", attempt), str(uuid.uuid4()))

    def cancel(self, run_id: str) -> None:
        self.ping()
        assert uuid.UUID(run_id)  # may be another service's run: they share a Valkey
        self.cancelled.append(run_id)

    def run(self, run_id: str) -> dict[str, Any] | None:
        """The run as the Prefect server describes it; PENDING unless `states` says otherwise."""
        self.ping()
        state = self.states.get(run_id, "PENDING")
        return {"id": run_id, "flow_id": FLOW, "deployment_id": DEPLOYMENT, "state_type": state}

    def ping(self) -> None:
        if self.fault:
            raise SubmitError(self.fault)

    def queue_depth(self) -> int:
        self.ping()
        return len(self.ids) - len(self.cancelled)

    def of(self, job_id: str) -> list[str]:
        return [run for (job, _), run in self.ids.items() if job == job_id]


class Server:
    """Runs an app in uvicorn on a free port."""

    def __init__(self, app: FastAPI, configured: Settings) -> None:
        self.app = app
        config = uvicorn.Config(app, port=0, timeout_graceful_shutdown=1, **server_options(configured))
        self._uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._uvicorn.run, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        while not self._uvicorn.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        self.port = self._uvicorn.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{self.port}"

    def __exit__(self, *_: object) -> None:
        self._uvicorn.should_exit = True
        self._thread.join(10)


@dataclass
class Service:
    """A client of the API, with the stores behind it."""

    url: str
    jobs: JobStore
    bucket: ArtifactStore
    runs: Runs
    settings: Settings
    app: FastAPI
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.url, follow_redirects=False, timeout=30)

    @property
    def services(self) -> Services:
        return self.app.state.services

    @property
    def events(self) -> JobEvents:
        return self.services.events

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.client.post(path, **options)

    def create(self, **changes: Any) -> httpx.Response:
        return self.post("/api/jobs", json=REQUEST | changes)

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.get(f"/api/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def callback(
        self, job_id: Any, status: Any, token: str = TOKEN, named: str | None = None, **more: Any
    ) -> httpx.Response:
        """Send a report; `named` is the attempt in its header."""
        body = {"job_id": job_id, "status": status, **more}
        attempt = {} if named is None else {"x-callback-attempt": named.encode()}
        headers = {"x-callback-token": token.encode(), **attempt}
        return self.post("/api/callback/nosana", json=body, headers=headers)

    def new_job(self) -> str:
        return self.create().json()["job_id"]

    def grant(self, job_id: str, attempt: int = 1, **changes: Any) -> str:
        """Sign a grant for the job's run, as the Nosana worker does."""
        run_id = self.record(job_id).flow_run_id
        named = {"job_id": job_id, "run_id": run_id, "attempt": attempt, "session_seconds": 600}
        grant = Grant(**named | {"expires_at": grants.expiry_after(600)} | changes)
        self.jobs.set_grant(JobRef(job_id=job_id, attempt=self.record(job_id).attempt), grant.grant_id)
        return grants.sign(grant, self.settings)

    def recut_grant(self, job_id: str, **changes: Any) -> str:
        """Sign a grant for the run of the job's recut, as the Nosana worker does once it has opened the attempt."""
        recut = self.record(job_id).recut
        assert recut
        run_id = str(recut.flow_run_id)
        named = {"job_id": job_id, "run_id": run_id, "attempt": recut.attempt, "revision": recut.revision}
        grant = Grant(**{**named, "session_seconds": 600, "expires_at": grants.expiry_after(600), **changes})
        assert self.jobs.set_grant(
            JobRef(job_id=job_id, attempt=recut.attempt, revision=recut.revision), grant.grant_id
        )
        return grants.sign(grant, self.settings)

    def redeem(self, grant: str, nonce: object = None) -> httpx.Response:
        return self.post("/api/worker/grant", json={"grant": grant} | ({"nonce": nonce} if nonce else {}))

    def access(self, job_id: str) -> Access:
        """The access that a rented container gets for the job's next run."""
        answer = self.redeem(self.grant(job_id))
        assert answer.status_code == 200, answer.text
        return Access.model_validate(answer.json()["access"])

    def failed_job(self, error: str = "It broke.") -> str:
        job_id = self.new_job()
        assert self.jobs.report(Report(job_id=job_id, status=JobState.FAILED, error=error))
        return job_id

    def finished_job(self, *files: str, manifest: Any = None, **entry: Any) -> str:
        """Create a job whose clips are in the bucket, as the existing worker writes them."""
        job_id = self.new_job()
        names = files or ("clip_01.mp4",)
        for name in names:
            self.bucket.put_bytes(job_key(job_id, name), CLIP, "binary/octet-stream")
        document = {"job_id": job_id, "clips": [clip_entry(name) | entry for name in names]}
        self.bucket.put_json(job_key(job_id, "manifest.json"), document if manifest is None else manifest)
        assert self.jobs.report(Report(job_id=job_id, status=JobState.SUCCEEDED, progress=100))
        return job_id

    def record(self, job_id: str) -> Job:
        job = self.jobs.get(job_id)
        assert job
        return job


def clip_entry(file: str) -> dict[str, Any]:
    """A clip as in the existing service's manifest."""
    words = [{"start": 1.0, "end": 2.0, "text": "So it"}, {"start": 2.0, "end": 31.0, "text": "begins."}]
    entry = {"index": 1, "title": "It begins", "hook": "So it begins", "start": 1.0, "end": 31.0, "duration": 30.0}
    return entry | {"segments": words, "file": file}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def server_environment(named: Settings) -> dict[str, str]:
    """The environment of `kangklip api` on the tests' servers; its Prefect server is unreachable."""
    return {
        "REDIS_URL": named.redis_url.get_secret_value(),
        "R2_ENDPOINT": named.r2_endpoint,
        "R2_BUCKET": named.r2_bucket,
        "R2_ACCESS_KEY_ID": named.r2_access_key_id.get_secret_value(),
        "R2_SECRET_ACCESS_KEY": named.r2_secret_access_key.get_secret_value(),
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        "CALLBACK_TOKEN": TOKEN,
    }


@pytest.fixture(scope="session")
def serve(servers) -> Iterator[Callable[..., Service]]:
    """Starts an API with changed settings; `background` runs along with it."""
    started: list[Server] = []

    def start(*background: Any, **changes: Any) -> Service:
        granting = {"grant_secret": SecretStr(GRANT_SECRET), "callback_base_url": "http://127.0.0.1:1"}
        configured = servers.settings.model_copy(
            update={"callback_token": SecretStr(f"{TOKEN},{NEXT_TOKEN}"), "create_rate_per_minute": 0}
            | {"max_queued": 0, "max_queued_per_key": 0}
            | granting
            | changes
        )
        jobs, bucket, runs = JobStore.from_settings(configured), ArtifactStore.from_settings(configured, 2), Runs()
        assert jobs
        server = Server(create_app(configured, jobs, bucket, runs, *background), configured)
        url = server.__enter__()
        started.append(server)
        return Service(url, jobs, bucket, runs, configured, server.app)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(uploads, "MAX_UNFINISHED", 10_000)  # to the API, all tests are one client
        yield start
        for server in started:
            server.__exit__()


@pytest.fixture(scope="session")
def shared_api(serve) -> Service:
    return serve()


@pytest.fixture
def api(shared_api) -> Iterator[Service]:
    yield shared_api
    shared_api.runs.fault = None


@pytest.fixture
def job_id(api) -> str:
    return api.new_job()


@pytest.fixture
def unknown_id() -> str:
    return new_job_id()
