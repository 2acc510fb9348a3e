"""Fixtures that run the flow against the embedded stack, each run in a process that tests can kill."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.bucket.store import ArtifactStore
from infra.jobs.ids import new_job_id
from infra.jobs.store import JobStore
from infra.states import Stage
from tests.flows.fork_server import ForkedRun
from tests.folders import MEDIA

FORK_SERVER = Path(__file__).with_name("fork_server.py")
RUN_RECUT = Path(__file__).with_name("run_recut.py")
SMALL_PICTURE = {"RENDER_RESOLUTION": "270x480", "RENDER_PRESET": "ultrafast", "RENDER_MAX_FPS": "25"}


@dataclass
class Finished:
    """Exit code and output of a run's process, and the id of its flow run."""

    returncode: int
    output: str
    flow_run_id: str | None


@dataclass
class Pipeline:
    """Runs jobs against the session's stack and reads their results."""

    environment: dict[str, str]
    store: ArtifactStore
    jobs: JobStore
    fork_server: Path

    def start(self, job_id: str, request: dict[str, Any], **extra: str) -> ForkedRun:
        """Start the flow in a new process session, so that all of its processes can be killed."""
        environment = os.environ | self.environment | SMALL_PICTURE | extra
        return ForkedRun(self.fork_server, [job_id, json.dumps(request)], environment)

    def run(self, job_id: str, request: dict[str, Any], **extra: str) -> Finished:
        process = self.start(job_id, request, **extra)
        output, _ = process.communicate(timeout=240)
        job = self.jobs.get(job_id)
        return Finished(process.returncode, output, job.nosana_run_id if job else None)

    def start_recut(self, job_id: str, revision: int, attempt: int = 1, **extra: str) -> subprocess.Popen[str]:
        """Start an attempt at a recut."""
        return subprocess.Popen(
            [sys.executable, str(RUN_RECUT), job_id, str(revision), str(attempt)],
            env=os.environ | self.environment | SMALL_PICTURE | extra,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def recut(self, job_id: str, revision: int, attempt: int = 1, **extra: str) -> Finished:
        process = self.start_recut(job_id, revision, attempt, **extra)
        output, _ = process.communicate(timeout=240)
        job = self.jobs.get(job_id)
        return Finished(process.returncode, output, job.recut.flow_run_id if job and job.recut else None)

    def stages(self, flow_run_id: str) -> dict[str, str]:
        """The state of each stage in a flow run: Completed, Cached, Failed ..."""
        return {name: state for name, (state, _) in self.task_runs(flow_run_id).items() if name.upper() in list(Stage)}

    def task_runs(self, flow_run_id: str) -> dict[str, tuple[str, int]]:
        """State of each task run of a flow run, stages and their parts, and how often it ran."""
        asked = {"flow_runs": {"id": {"any_": [flow_run_id]}}}
        answer = httpx.post(f"{self.environment['PREFECT_API_URL']}/task_runs/filter", json=asked, timeout=60)
        ordered = sorted(answer.raise_for_status().json(), key=lambda run: run["start_time"] or run["created"])
        return {run["name"]: (run["state_name"], run["run_count"]) for run in ordered}

    def json(self, job_id: str, name: str) -> Any:
        return self.store.get_json(f"jobs/{job_id}/{name}")

    def clear_shared_cache(self) -> None:
        """Empty the cache that jobs share, so that the next job does all work itself."""
        for prefix in ("cache/media/", "cache/transcripts/"):
            for key in list(self.store.list(prefix)):
                self.store.delete(key)


@pytest.fixture(scope="session")
def fork_server(stack, tmp_path_factory):
    """The address of a fork server."""
    address = tmp_path_factory.mktemp("fork") / "socket"
    environment = os.environ | stack.environment()
    with subprocess.Popen([sys.executable, FORK_SERVER, address], env=environment, start_new_session=True) as server:
        while not address.exists():
            assert server.poll() is None
            time.sleep(0.05)
        yield address
        server.kill()


@pytest.fixture(scope="session")
def pipeline(stack, store, fork_server):
    return Pipeline(stack.environment(), store, JobStore.from_settings(stack.settings), fork_server)


@pytest.fixture(scope="session")
def short(stack, store):
    """A request for two clips of the short sample."""
    from deployments.local_run import register_file

    key, name = register_file(MEDIA / "short.mp4")
    return {"source_key": key, "source_name": name, "clip_duration_seconds": 9, "clip_count": 2, "language": "en"}


@pytest.fixture
def job_id():
    return new_job_id()
