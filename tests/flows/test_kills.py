"""Processes are killed at random while jobs run: every job ends well by itself, none twice, and nothing is left.

`KILLS`, `KILL_JOBS` and `KILL_SEED` choose how many kills, over how many jobs, and which.
"""

import contextlib
import json
import os
import random
import signal
import time
from collections import Counter

import httpx
import psutil
import pytest

from infra.jobs.connection import Connection
from infra.jobs.events import JobEvents
from infra.jobs.store import JobStore
from infra.local.services import Home
from infra.states import JobState
from tests.deployments.cli.test_up import SHORT, Up
from tests.media_server import MediaServer, file

KILLS, JOBS = int(os.environ.get("KILLS", "200")), int(os.environ.get("KILL_JOBS", "40"))
SEED = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
PAUSE_SECONDS = (0.5, 6.0)
PATIENCE_SECONDS = 240.0 + 60.0 * JOBS
TARGETS = ["engine", "engine", "worker", "supervisor", "valkey", "s3", "prefect", "up"]


class Killed(Up):
    """A `kangklip up` whose processes are killed; it alone is started again by us."""

    def environment(self):
        # Far more deaths than a machine gives a job; what is tried is that each is followed, not when to stop.
        return super().environment() | {"MAX_ATTEMPTS": "1000"}

    def kill(self, target):
        """Whether there was something to kill."""
        if target == "up":
            self.process.kill()
            self.process.wait()
            self.start(300)
            return True
        pids = self.pids_of(target)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(pids)

    def pids_of(self, target):
        if target == "engine":
            return [pid for pid, command in self.processes() if "prefect.engine" in command]
        with contextlib.suppress(OSError, ValueError):
            stack = json.loads((self.folder / "stack" / "stack.json").read_text())
            pid = stack["supervisor"] if target == "supervisor" else stack["parts"].get(target, {}).get("pid")
            mine = {found for found, _ in self.processes()}
            return [pid] if pid in mine or (target == "supervisor" and pid) else []
        return []

    def processes(self):
        """Process ids of this stack, with their command lines."""
        mark = Home(self.folder / "stack").secrets.mark
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                command = " ".join(process.cmdline())
                if mark in command or mark in process.environ().values():
                    yield process.pid, command

    def statuses(self, jobs):
        found = Counter()
        for job_id in jobs:
            found[self.job(job_id)["status"]] += 1
        return found

    def ended_count(self, jobs):
        """The number of jobs that have ended, or 0 if it is not known just now."""
        with contextlib.suppress(httpx.HTTPError, KeyError, AssertionError):
            now = self.statuses(jobs)
            return now["SUCCEEDED"] + now["FAILED"]
        return 0

    def submit(self, url, number):
        """A job, asked for until it is there: a key makes asking twice one job."""
        body = {"video_url": url, "clip_duration_seconds": 30 + number % 8, "clip_count": 1, "language": "en"}
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                answer = self.client.post("/api/jobs", json=body, headers={"Idempotency-Key": f"kill-{SEED}-{number}"})
                if answer.status_code == 200:
                    return answer.json()["job_id"]
            time.sleep(1)
        raise AssertionError(self.log())


@pytest.fixture
def url():
    with MediaServer() as server:
        server.pages["/short.mp4"] = file(SHORT.read_bytes(), etag='"short"')
        yield f"http://127.0.0.1:{server.port}/short.mp4"


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_every_job_ends_well_whatever_is_killed(tmp_path, url):
    print(f"KILL_SEED={SEED} KILLS={KILLS} KILL_JOBS={JOBS}")
    dice, done = random.Random(SEED), Counter()  # noqa: S311 - the same kills for the same seed
    up = Killed(tmp_path / "data")
    up.folder.mkdir()
    up.start(300)
    try:
        jobs = [up.submit(url, number) for number in range(JOBS)]
        while done.total() < KILLS:
            time.sleep(dice.uniform(*PAUSE_SECONDS))
            if done.total() > KILLS / JOBS * (up.ended_count(jobs) + 1):
                continue  # every job gets its share of the kills
            target = dice.choice(TARGETS)
            if up.kill(target):
                done[target] += 1
                print(f"{time.strftime('%X')} killed {target}, {done.total()} so far")
        jobs.append(up.submit(url, JOBS))  # nothing is killed any more; its run clears what the killed ones left
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (now := up.statuses(jobs))["SUCCEEDED"] + now["FAILED"] < len(jobs):
            assert time.monotonic() < deadline, (now, [up.job(job_id) for job_id in jobs], up.log())
            time.sleep(2)
        check(up, jobs)
    finally:
        up.stop()
    left = [command for _, command in up.processes()]
    print(dict(done))
    assert left == []
    assert [path.name for path in (up.folder / "work").glob("*")] == []


def check(up, jobs):
    """What is true of every job once all have ended."""
    stack = up.stack()
    store = JobStore(Connection(stack.environment()["REDIS_URL"]), 3600)
    failed = [job for job_id in jobs if (job := up.job(job_id))["status"] != "SUCCEEDED"]
    assert failed == []
    for job_id in jobs:
        job = store.get(job_id)
        tag = {"flow_runs": {"tags": {"all_": [job_id]}}}
        runs = httpx.post(f"{stack.environment()['PREFECT_API_URL']}/flow_runs/filter", json=tag, timeout=60).json()
        reasons = [one.reason for one in job.attempts if one.reason]
        print(job_id, job.attempt, reasons)
        assert not any("memory" in reason or reason.startswith("The run was stopped") for reason in reasons)
        assert len({run["parameters"]["attempt"] for run in runs}) == len(runs) <= job.attempt
        assert [run["state_type"] for run in runs].count("COMPLETED") == 1
        assert {run["state_type"] for run in runs} <= {"COMPLETED", "CRASHED", "FAILED"}
        ends = [fields["status"] for _, fields in JobEvents(store.connection).read(job_id, block_seconds=0.05)]
        assert ends.count(JobState.SUCCEEDED) == 1
        assert not store.leases.is_held(job_id)
        assert up.client.get(f"/api/jobs/{job_id}/results").json()["clips"]
    assert store.active() == []
