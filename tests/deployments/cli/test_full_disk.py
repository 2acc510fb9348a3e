"""A full disk is reported by the API, /readyz and the command line, and nothing crashes or is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from deployments.api.app import create_app
from infra.bucket.store import ArtifactStore
from infra.errors import StateFull, StoreError
from infra.jobs.ids import new_job_id
from infra.jobs.store import JobStore
from infra.local.services import Service
from infra.local.stack import LocalStack
from tests.deployments.api.conftest import REQUEST, Runs, Server
from tests.folders import ROOT
from tests.small_disk import filled, small_disk

SAMPLE = ROOT / "tests" / "media" / "short.mp4"
NO_SPACE = "No space is left on the disk of"


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    with small_disk(tmp_path_factory.mktemp("small") / "disk", 300) as made:
        yield made


@pytest.fixture(scope="module")
def stack(disk, embedded):
    with LocalStack(embedded.model_copy(update={"data_dir": disk}), [Service.VALKEY, Service.S3]) as running:
        yield running


@pytest.fixture(scope="module")
def client(stack):
    store, bucket = JobStore.from_settings(stack.settings), ArtifactStore.from_settings(stack.settings, 2)
    with (
        Server(create_app(stack.settings, store, bucket, Runs()), stack.settings) as url,
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        yield http


def readiness(client):
    return client.get("/readyz").json()


def wait_until(wanted, seconds=30):
    deadline = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_refused(jobs):
    """Whether Redis takes no more records for want of disk space."""
    try:
        jobs.create(new_job_id(), '{"long": "' + "x" * 5000 + '"}')
    except StateFull:
        return True
    return False


def kangklip(disk, *arguments):
    unnamed = ("REDIS_URL", "R2_ENDPOINT", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", "PREFECT_API_URL")
    env = {name: value for name, value in os.environ.items() if name not in unnamed}
    command = [sys.executable, "-m", "deployments.cli.main", *arguments]
    env |= {"KANGKLIP_DATA_DIR": str(disk), "COLUMNS": "300"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120)


def test_a_full_disk_is_reported_and_survived(disk, stack, client):
    jobs, bucket = JobStore.from_settings(stack.settings), ArtifactStore.from_settings(stack.settings, 1)
    job_id = client.post("/api/jobs", json=REQUEST).json()["job_id"]
    assert readiness(client)["bucket"] == "ok"
    before = json.loads((stack.home.path / "stack.json").read_text())
    with filled(disk):
        wait_until(lambda: is_refused(jobs))
        wait_until(lambda: readiness(client)["redis"].startswith(NO_SPACE))  # the answer is kept for a moment
        assert readiness(client)["bucket"].startswith(NO_SPACE)
        refused = client.post("/api/jobs", json=REQUEST)
        assert (refused.status_code, refused.json()) == (503, {"detail": "no space is left on the server's disk"})
        assert client.get(f"/api/jobs/{job_id}").status_code == 200
        with pytest.raises(StoreError):
            bucket.put_bytes("a-large-one", os.urandom(1 << 20), "text/plain")

        clip = kangklip(disk, "clip", str(SAMPLE), "--out", str(disk / "out"))
        assert clip.returncode == 1
        assert clip.stderr.startswith(f"✗ {NO_SPACE} {disk}")
        assert "Traceback" not in clip.stderr

        # A service that dies now comes back on its port, because its configuration is not lost.
        killed = stack.pid(Service.VALKEY)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(killed))  # the supervisor has seen it, but cannot write so
    wait_until(lambda: set(readiness(client).values()) == {"ok"})
    wait_until(lambda: stack.pid(Service.VALKEY) not in {None, killed})
    assert jobs.get(job_id) is not None
    assert client.post("/api/jobs", json=REQUEST).status_code == 200
    after = json.loads((stack.home.path / "stack.json").read_text())
    assert after["supervisor"] == before["supervisor"]
    assert after["parts"][Service.VALKEY]["port"] == before["parts"][Service.VALKEY]["port"]
    assert after["parts"][Service.VALKEY]["starts"] > 1
    assert after["parts"][Service.S3]["starts"] == 1


def test_a_stage_without_disk_space_raises_disk_full(servers, tmp_path, monkeypatch):
    from infra.errors import DiskFull
    from infra.jobs.record import JobRef
    from infra.states import Stage
    from tasks.workspace import stage_workspace

    for name, value in servers.environment().items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DiskFull, match=NO_SPACE), stage_workspace(JobRef(job_id=new_job_id()), Stage.RENDER):
        Path("/dev/full").write_bytes(b"a clip")
    with pytest.raises(FileNotFoundError), stage_workspace(JobRef(job_id=new_job_id()), Stage.RENDER):
        (tmp_path / "missing").read_bytes()


def test_the_command_line_reports_a_full_disk_for_any_folder():
    """The clips may go to another disk than the data folder's."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from deployments.cli import main as cli\n"
        "@cli.app.command('export')\n"
        "def export() -> None: Path('/dev/full').write_bytes(b'a clip')\n"
        "sys.argv[1:] = ['export']\n"
        "cli.main()\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "No space is left on the disk" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
