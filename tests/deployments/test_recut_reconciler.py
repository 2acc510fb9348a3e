"""The reconciler retries recuts whose run has died, a bounded number of times, and leaves the others alone."""

import json
import uuid
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from deployments.recut_reconciler import PENDING_SECONDS, UNSUBMITTED_SECONDS, RecutReconciler
from infra.errors import SubmitError
from infra.jobs.ids import new_job_id
from infra.jobs.record import Report
from infra.jobs.store import JobStore
from infra.prefect.runs import RECUTS, PrefectRuns
from infra.states import JobState, Stage


class Server:
    """Stands in for the Prefect server: the state of each run by id."""

    def __init__(self):
        self.states, self.crashed, self.submitted, self.cancelled, self.refuses = {}, [], [], [], False

    def runs(self, run_ids):
        state = {"message": "as it said"}
        return {
            run: {"id": run, "state_type": self.states[run], "state": state} for run in run_ids if run in self.states
        }

    def submit_recut(self, job_id, revision, attempt, earlier_run_id=None):
        if self.refuses:
            raise SubmitError("The Prefect server answered 503 to deployments.")
        self.submitted.append((job_id, revision, attempt, earlier_run_id))
        run_id = str(uuid.uuid4())
        self.states[run_id] = "SCHEDULED"
        return run_id

    def cancel(self, run_id):
        self.cancelled.append(run_id)

    def mark_crashed(self, run_id, message):
        self.crashed.append((run_id, message))


@pytest.fixture
def scene(servers):
    jobs = JobStore.from_settings(servers.settings)
    for job in jobs.recuts.under_way():
        jobs.recuts.end(job.job_id, job.recut.revision, job.recut.attempt, JobState.FAILED, "before this test")
    job_id, server, clock = new_job_id(), Server(), SimpleNamespace(now=0.0)
    jobs.create(job_id, "{}")
    jobs.report(Report(job_id=job_id, status=JobState.SUCCEEDED, stage=Stage.DONE, progress=100))
    assert jobs.recuts.begin(job_id, 1) == 2
    clock.now = jobs.get(job_id).recut.updated_at
    reconciler = RecutReconciler(jobs, server, clock=lambda: clock.now)

    def after(seconds):
        """Reconcile, wait `seconds`, reconcile again and return the recut."""
        reconciler.step()
        clock.now += seconds
        reconciler.step()
        return jobs.get(job_id).recut

    return SimpleNamespace(jobs=jobs, server=server, job_id=job_id, after=after, clock=clock)


def begin_run(scene, state, attempt=1):
    """A process has opened the attempt and has died."""
    run_id = str(uuid.uuid4())
    scene.jobs.recuts.open(scene.job_id, 2, attempt, run_id, scene.jobs.leases)
    scene.jobs.leases.release(scene.job_id)
    scene.server.states[run_id] = state
    return run_id


@pytest.mark.parametrize(
    ("state", "reason"),
    [("CRASHED", "The run ended as crashed: as it said."), ("RUNNING", "The process that ran the recut has died.")],
)
def test_a_recut_whose_run_died_is_retried_until_it_is_given_up(scene, state, reason):
    for attempt in (1, 2, 3, 4):
        run_id = begin_run(scene, state, attempt)
        recut = scene.after(10)
        if attempt == 4:
            break
        assert (recut.state, recut.attempt, recut.error) == (JobState.QUEUED, attempt + 1, None)
        assert scene.server.crashed[-1:] == ([(run_id, reason)] if state == "RUNNING" else [])
        submitted = scene.after(10)
        assert scene.server.submitted[-1] == (scene.job_id, 2, attempt + 1, run_id)
        scene.jobs.connection.client.hdel(f"kangklip:job:{scene.job_id}", "recut_flow_run_id")
        assert submitted.again_at is None
    assert recut.state is JobState.FAILED
    assert recut.error == f"{reason} The published clips are as they were; send the document again."
    job = scene.jobs.get(scene.job_id)
    assert (job.status, job.error, job.revision) == (JobState.SUCCEEDED, None, None)


def test_a_live_or_waiting_run_is_left_alone(scene):
    run_id = begin_run(scene, "RUNNING")
    scene.jobs.leases.hold(scene.job_id)
    assert scene.after(3600).state is JobState.RUNNING
    scene.jobs.leases.release(scene.job_id)
    scene.server.states[run_id] = "SCHEDULED"
    assert scene.after(3600).attempt == 1


def test_a_run_that_was_never_submitted_or_never_started_is_submitted_again(scene):
    assert scene.after(UNSUBMITTED_SECONDS - 1).flow_run_id is None
    scene.server.refuses = True
    scene.after(UNSUBMITTED_SECONDS)
    scene.server.refuses = False
    recut = scene.after(1)
    assert scene.server.submitted == [(scene.job_id, 2, 1, None)]
    scene.server.states[recut.flow_run_id] = "PENDING"
    assert scene.after(PENDING_SECONDS - 1).attempt == 1
    assert scene.after(2).attempt == 2


def test_a_cancelled_run_ends_the_recut(scene):
    begin_run(scene, "CANCELLED")
    recut = scene.after(10)
    assert recut.state is JobState.FAILED
    assert recut.error.startswith("The run was cancelled in the Prefect UI: as it said.")


def test_a_recut_is_submitted_to_its_own_deployment_once():
    asked: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            assert request.url.path == f"/api/deployments/name/{RECUTS}"
            return httpx.Response(200, json={"id": "d"})
        asked.append(json.loads(request.content))
        return httpx.Response(201, json={"id": "r"})

    runs = PrefectRuns("http://prefect/api", "clip/gpu", httpx.MockTransport(answer))
    assert runs.submit_recut("kk_1", 3, 2) == "r"
    assert asked[0]["parameters"] == {"job_id": "kk_1", "revision": 3, "attempt": 2}
    assert asked[0]["idempotency_key"] == "kk_1:recut:3:2"
