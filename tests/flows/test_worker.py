"""A run started in the Prefect UI or by a schedule, with `prefect deploy` and the embedded process worker."""

import json
import os
import subprocess
import sys

import pytest

from infra.bucket.store import ArtifactStore
from infra.jobs.ids import job_id_of_run
from infra.jobs.store import JobStore
from infra.local.services import SERVERS, Service
from infra.local.stack import LocalStack
from infra.settings import Settings
from infra.states import JobState
from tests import media_server as serve
from tests.folders import ROOT
from tests.media_server import MediaServer
from tests.prefect_client import prefect_client

SHORT = ROOT / "tests" / "media" / "short.mp4"
UNNAMED = ("REDIS_URL", "R2_ENDPOINT", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", "PREFECT_API_URL", "PREFECT_HOME")


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_run_of_the_deployment_creates_a_job_and_clips(tmp_path, monkeypatch):
    for name in UNNAMED:
        monkeypatch.delenv(name, raising=False)
    small = {"RENDER_RESOLUTION": "270x480", "RENDER_PRESET": "ultrafast", "ALLOW_PRIVATE_ADDRESSES": "1"}
    for name, value in small.items():
        monkeypatch.setenv(name, value)
    with MediaServer() as media, LocalStack(Settings(KANGKLIP_DATA_DIR=tmp_path), (*SERVERS, Service.WORKER)) as stack:
        media.pages["/short.mp4"] = serve.file(SHORT.read_bytes())
        environment = os.environ | stack.environment()
        store = ArtifactStore.from_settings(stack.settings)
        prefect(environment, "--no-prompt", "deploy", "--name", "local")
        address = f"http://127.0.0.1:{media.port}/short.mp4"
        request = {"video_url": address, "clip_duration_seconds": 8, "clip_count": 1, "language": "en"}
        parameters = json.dumps({"request": request})
        result = prefect(environment, "deployment", "run", "clip/local", "--params", parameters, "--watch")
        run_id = next(word for word in result.replace("/", " ").split() if word.count("-") == 4)
        job = JobStore.from_settings(stack.settings).get(job_id_of_run(run_id))
        assert job.status is JobState.SUCCEEDED, result
        assert store.exists(f"jobs/{job.job_id}/clip_01.mp4")
        with prefect_client(stack.environment()["PREFECT_API_URL"]) as server:
            run = server.get(f"/flow_runs/{run_id}").json()
            logs = server.post("/logs/filter", json={"logs": {"flow_run_id": {"any_": [run_id]}}}).json()
        assert run["name"] == job.job_id
        assert {"clip", job.job_id} <= set(run["tags"])
        assert any(line["name"].startswith("tasks.") for line in logs), [line["name"] for line in logs]


def prefect(environment, *arguments):
    command = [sys.executable, "-m", "prefect", *arguments]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
