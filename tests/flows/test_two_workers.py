"""Two workers, as on two machines: both take jobs, and when one is lost with its job, the other finishes it.

The Prefect server keeps its runs in PostgreSQL, as in the compose file. Its messages go through Redis where
prefect-redis is installed, as it is in Prefect's image.
"""

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from collections import defaultdict

import httpx
import psutil
import pytest

from infra.local.services import Service
from infra.local.stack import LocalStack
from infra.settings import Settings
from tests.bench.http_timing import running_api
from tests.deployments.cli.test_up import SERVER_VARIABLES, SHORT, SMALL, free_port, has_ended
from tests.folders import ROOT
from tests.media_server import MediaServer, file
from tests.postgres_server import postgres

JOBS, PATIENCE_SECONDS = 5, 900
REQUEST = {"clip_duration_seconds": 30, "clip_count": 1, "language": "en"}


@pytest.mark.soak
@pytest.mark.timeout(1500)
def test_a_lost_workers_job_is_finished_by_the_other(tmp_path, monkeypatch):
    for name in SERVER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    embedded = [Service.VALKEY, Service.S3]
    with contextlib.ExitStack() as running:
        media = running.enter_context(MediaServer())
        media.pages["/short.mp4"] = file(SHORT.read_bytes(), etag='"short"')
        stack = running.enter_context(LocalStack(Settings(KANGKLIP_DATA_DIR=tmp_path / "servers"), embedded))
        database = running.enter_context(postgres(free_port()))
        api_url = running.enter_context(prefect_server(tmp_path, database, stack.environment()["REDIS_URL"]))
        for name, value in (stack.environment() | SMALL | {"PREFECT_API_URL": api_url}).items():
            monkeypatch.setenv(name, value)
        run("deployments.cli.main", "deploy")
        run("prefect", "work-queue", "set-concurrency-limit", "clips", "2", "--pool", "kangklip")
        workers = {name: running.enter_context(worker(tmp_path, name)) for name in ("one", "two")}
        url, _ = running.enter_context(running_api({"CALLBACK_TOKEN": "a-token"}))
        client = running.enter_context(httpx.Client(base_url=url, timeout=60))
        link = f"http://127.0.0.1:{media.port}/short.mp4"
        jobs = [client.post("/api/jobs", json=REQUEST | {"video_url": link}).json()["job_id"] for _ in range(JOBS)]
        taken, lost = work(client, jobs, workers)
        assert {name for name, runs in taken.items() if runs} == {"one", "two"}, taken
        views = {job_id: client.get(f"/api/jobs/{job_id}").json() for job_id in jobs}
        assert [view["status"] for view in views.values()] == ["SUCCEEDED"] * JOBS, views
        assert [job_id for job_id, view in views.items() if view["attempt"] > 1] == [lost], views
        assert views[lost]["attempt"] == 2
        assert views[lost]["nosana_run_id"] in taken["two"]


def work(client, jobs, workers):
    """Kill worker one, with all it has started, while it renders a clip, and wait until all jobs have ended.

    Returns the runs that each worker took, and the job that was lost.
    """
    taken, lost, deadline = defaultdict(set), None, time.monotonic() + PATIENCE_SECONDS
    while True:
        for name, process in workers.items():
            taken[name] |= runs_below(process)
        views = [client.get(f"/api/jobs/{job_id}").json() for job_id in jobs]
        if all(map(has_ended, views)):
            return taken, lost
        assert time.monotonic() < deadline, (views, taken)
        doomed = next(
            (view for view in views if view["stage"] == "RENDER" and view["nosana_run_id"] in taken["one"]), None
        )
        if lost is None and doomed and taken["two"]:
            lost = doomed["job_id"]
            kill_with_children(workers["one"].pid)
        time.sleep(0.2)


def runs_below(process):
    """The flow runs that descendants of the process execute."""
    found = set()
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                found.add(child.environ().get("PREFECT__FLOW_RUN_ID"))
    return found - {None}


def kill_with_children(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@contextlib.contextmanager
def prefect_server(folder, database, redis_url):
    """A Prefect server on the database; yields the address of its API."""
    port = free_port()
    own = {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_API_DATABASE_CONNECTION_URL": database}
    own |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    if importlib.util.find_spec("prefect_redis"):
        messages = redis_url.removesuffix("/0") + "/1"
        own |= {"PREFECT_REDIS_MESSAGING_URL": messages, "PREFECT_SERVER_DOCKET_URL": messages}
        own |= dict.fromkeys(("PREFECT_MESSAGING_BROKER", "PREFECT_MESSAGING_CACHE"), "prefect_redis.messaging")
        own["PREFECT_SERVER_EVENTS_CAUSAL_ORDERING"] = "prefect_redis.ordering"
        own["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"] = "prefect_redis.lease_storage"
    with process(folder / "prefect.log", own, "server", "start", "--host", "127.0.0.1", "--port", str(port)) as server:
        deadline = time.monotonic() + 180
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/api/health", timeout=5).is_success:
                    break
            assert server.poll() is None, (folder / "prefect.log").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/api"


@contextlib.contextmanager
def worker(folder, name):
    """A worker of the pool kangklip, with folders of its own."""
    own = {"KANGKLIP_DATA_DIR": str(folder / name), "PREFECT_HOME": str(folder / f"prefect-{name}")}
    own["PREFECT_WORKER_QUERY_SECONDS"] = "1"
    command = ["worker", "start", "--pool", "kangklip", "--name", name, "--limit", "1"]
    with process(folder / f"{name}.log", own, *command) as started:
        yield started


@contextlib.contextmanager
def process(log, environment, *arguments):
    command = [sys.executable, "-m", "prefect", *arguments]
    with (
        log.open("ab") as file,
        subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=file, stderr=file) as started,
    ):
        try:
            yield started
        finally:
            kill_with_children(started.pid)


def run(module, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
