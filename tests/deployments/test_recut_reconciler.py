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
from infra.jobs.leases import watch_lease
from infra.jobs.record import JobRef, Report
from infra.jobs.store import JobStore
from infra.prefect.runs import PrefectRuns
from infra.states import JobState, Stage
from tasks.core.object_keys import job_key
from tests.editable_job import store_published


class Server:
    """Stands in for the Prefect server: the state of each run by id."""

    def __init__(self):
        self.states, self.crashed, self.submitted, self.cancelled, self.refuses = {}, [], [], [], False

    def runs(self, run_ids):
        state = {"message": "as it said"}
        return {
            run: {"id": run, "state_type": self.states[run], "state": state} for run in run_ids if run in self.states
        }

    def waiting(self, run_ids):
        return {run_id for run_id in run_ids if self.states.get(run_id) == "SCHEDULED"}

    def submit_recut(self, job_id, revision, attempt, earlier_run_id=None, *, is_rented=False):
        self.on_rented = is_rented
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
def scene(servers, store):
    jobs = JobStore.from_settings(servers.settings)
    for job in jobs.recuts.under_way():
        jobs.recuts.end(job.job_id, job.recut.revision, job.recut.attempt, JobState.FAILED, "before this test")
    job_id, server, clock = new_job_id(), Server(), SimpleNamespace(now=0.0)
    jobs.create(job_id, "{}")
    jobs.report(Report(job_id=job_id, status=JobState.SUCCEEDED, stage=Stage.DONE, progress=100))
    assert jobs.recuts.begin(job_id, 1) == 2
    clock.now = jobs.get(job_id).recut.updated_at
    reconciler = RecutReconciler(jobs, server, store, clock=lambda: clock.now)

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


def rent(scene, state):
    """A worker has opened the attempt, for a rented machine."""
    run_id = str(uuid.uuid4())
    scene.jobs.recuts.open(scene.job_id, 2, 1, run_id, scene.jobs.leases, lease=False)
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


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "CANCELLING"])
def test_a_run_that_a_worker_watches_on_a_rented_machine_is_left_to_it(scene, state):
    run_id = rent(scene, state)
    scene.jobs.leases.hold(watch_lease(run_id))
    assert scene.after(3600).attempt == 1
    scene.jobs.set_deployment(JobRef(job_id=scene.job_id, revision=2, attempt=1), "a-nosana-deployment")
    scene.jobs.leases.release(watch_lease(run_id))  # the next worker adopts the run
    assert scene.after(3600).attempt == 1


@pytest.mark.parametrize(("state", "attempt"), [("PENDING", 2), ("RUNNING", 1)])
def test_a_worker_that_died_before_it_recorded_the_machine_is_waited_for_if_one_may_be_drawing(scene, state, attempt):
    rent(scene, state)
    scene.jobs.set_grant(JobRef(job_id=scene.job_id, revision=2, attempt=1), "a-grant")
    assert scene.after(PENDING_SECONDS + 1).attempt == attempt


def test_a_rented_run_that_was_lost_is_retried_where_the_job_was_made(scene):
    rent(scene, "CRASHED")
    assert scene.after(10).attempt == 2
    scene.after(10)
    assert scene.server.on_rented is False
    scene.jobs.connection.client.hset(f"kangklip:job:{scene.job_id}", "grant_id", "a-grant")
    scene.server.states[scene.jobs.get(scene.job_id).recut.flow_run_id] = "CRASHED"
    assert scene.after(10).attempt == 3
    scene.after(10)
    assert scene.server.on_rented is True


@pytest.mark.parametrize("where", ["here", "on a rented machine"])
def test_a_revision_that_was_published_before_its_process_died_is_completed_without_another_run(scene, store, where):
    run_id = begin_run(scene, "RUNNING") if where == "here" else rent(scene, "RUNNING")
    run, job = (scene.job_id, 2, 1), JobRef(job_id=scene.job_id, revision=2, attempt=1)
    scene.jobs.connection.client.hset(f"kangklip:job:{scene.job_id}", "recut_state", "RUNNING")
    if where != "here":
        assert scene.jobs.set_deployment(job, "a-nosana-deployment")
        assert scene.jobs.set_grant(job, "a-grant")
    store_published(scene.job_id, store, folder="revisions/2/")
    store.put_bytes(job_key(scene.job_id, "clip_02.mp4"), b"of revision 1", "video/mp4")
    store.put_bytes(f"granted/{scene.job_id}/rest", b"", "text/plain")
    assert scene.jobs.recuts.keep(*run)
    assert scene.jobs.recuts.publish(*run)
    with scene.jobs.leases.kept(scene.job_id):  # somebody publishes it
        assert scene.after(3600).state is JobState.RUNNING
    assert scene.after(10).state is JobState.SUCCEEDED
    assert (scene.server.submitted, scene.jobs.leases.is_held(scene.job_id)) == ([], False)
    assert scene.server.crashed == ([(run_id, "The process that published it has died.")] if where == "here" else [])
    for name in ("clip_01.mp4", "clip_02.mp4", "clip_02.vtt", "edit.json", "manifest.json"):
        made = store.get_bytes(job_key(scene.job_id, f"revisions/2/{name}"))
        assert store.get_bytes(job_key(scene.job_id, name)) == made
    assert not store.exists(f"granted/{scene.job_id}/rest")


def test_a_revision_whose_files_are_away_is_completed_later(scene, store):
    begin_run(scene, "RUNNING")
    run = (scene.job_id, 2, 1)
    assert scene.jobs.recuts.keep(*run)
    assert scene.jobs.recuts.publish(*run)
    assert scene.after(10).state is JobState.RUNNING
    store_published(scene.job_id, store, folder="revisions/2/")
    assert scene.after(10).state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("setting", "is_rented", "deployment"),
    [
        (None, False, "recut/local"),
        (None, True, "recut/gpu"),
        ("recut/local", True, "recut/local"),
        ("recut/own", False, "recut/own"),
    ],
)
def test_a_recut_is_submitted_once_to_where_its_job_was_made_or_the_operator_says(setting, is_rented, deployment):
    asked: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            assert request.url.path == f"/api/deployments/name/{deployment}"
            return httpx.Response(200, json={"id": "d"})
        asked.append(json.loads(request.content))
        return httpx.Response(201, json={"id": "r"})

    runs = PrefectRuns("http://prefect/api", "clip/gpu", httpx.MockTransport(answer), setting)
    assert runs.submit_recut("kk_1", 3, 2, is_rented=is_rented) == "r"
    assert asked[0]["parameters"] == {"job_id": "kk_1", "revision": 3, "attempt": 2}
    assert asked[0]["idempotency_key"] == "kk_1:recut:3:2"
