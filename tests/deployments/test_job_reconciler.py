"""The reconciler retries jobs whose run has died or ends them with the real reason, and leaves the others alone."""

import asyncio
from types import SimpleNamespace
from uuid import NAMESPACE_OID, uuid5

import httpx
import pytest

from deployments import job_reconciler
from deployments.cli import serve
from deployments.job_reconciler import DEAD_SECONDS, OPENING_SECONDS, PENDING_SECONDS, Reconciler
from infra.errors import SubmitError
from infra.jobs.events import JobEvents
from infra.jobs.ids import new_job_id
from infra.jobs.leases import watch_lease
from infra.jobs.record import JobRef, Report
from infra.jobs.store import JobStore
from infra.states import JobState, Stage


class Server:
    """Stands in for the Prefect server: the state of each run by id."""

    def __init__(self):
        self.states, self.ended, self.away, self.submitted, self.refuses = {}, [], False, [], False
        self.submitted_after = []

    def runs(self, run_ids):
        if self.away:
            raise SubmitError("The Prefect server did not answer (ConnectError).")
        return {
            run_id: {
                "id": run_id,
                "state_type": state,
                "state": {"message": "as it said.\nand more"},
            }
            for run_id, state in self.states.items()
            if run_id in run_ids
        }

    def waiting(self, run_ids):
        return {run_id for run_id, run in self.runs(run_ids).items() if run["state_type"] == "SCHEDULED"}

    def submit(self, job_id, attempt, request, earlier_run_id=None, since=None):
        if self.refuses:
            raise SubmitError("The Prefect server answered 503 to deployments.")
        run_id = str(uuid5(NAMESPACE_OID, f"{job_id}:{attempt}"))
        self.submitted.append((job_id, attempt, request))
        self.submitted_after.append((earlier_run_id, since))
        self.states[run_id] = "SCHEDULED"
        return run_id

    def cancel(self, run_id):
        self.states[run_id] = "CANCELLED"

    def mark_crashed(self, run_id, message):
        self.ended.append((run_id, message))


@pytest.fixture
def scene(servers):
    jobs = JobStore.from_settings(servers.settings)
    for job in jobs.active():
        jobs.report(Report(job_id=job.job_id, attempt=None, status=JobState.FAILED, error="before this test"))
    server, clock = Server(), SimpleNamespace(now=0.0)
    job_id = new_job_id()
    jobs.create(job_id, "{}")
    clock.now = jobs.get(job_id).created_at
    reconciler = Reconciler(jobs, server, clock=lambda: clock.now)

    def after(seconds):
        """Reconcile, wait `seconds`, reconcile again and return the job."""
        reconciler.step()
        clock.now += seconds
        reconciler.step()
        return jobs.get(job_id)

    return SimpleNamespace(jobs=jobs, server=server, job_id=job_id, after=after, clock=clock, reconciler=reconciler)


def begin_run(scene, state, run_id="11111111-1111-1111-1111-111111111111", *, leased=True, attempt=1):
    scene.jobs.set_run(scene.job_id, attempt, run_id)
    assert scene.jobs.open(scene.job_id, run_id, attempt, "{}", lease=leased) == attempt
    scene.jobs.leases.release(scene.job_id)
    scene.jobs.report(Report(job_id=scene.job_id, attempt=attempt, stage=Stage.RENDER, progress=70))
    scene.server.states[run_id] = state
    return run_id


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("CRASHED", "The run ended as crashed: as it said. and more."),
        ("COMPLETED", "The run ended as completed: as it said. and more."),
        ("RUNNING", "The process that ran the job has died."),
    ],
)
def test_a_job_whose_run_died_is_retried(scene, state, reason):
    run_id = begin_run(scene, state)
    assert scene.after(1).status is JobState.RUNNING
    job = scene.after(10)
    assert (job.status, job.attempt, job.error) == (JobState.QUEUED, 2, None)
    assert (job.attempts[0].reason, job.message) == (reason, f"{reason} The next attempt starts in 5 seconds.")
    assert job.again_at == pytest.approx(job.updated_at + 5, abs=0.01)
    assert scene.server.ended == ([(run_id, reason)] if state == "RUNNING" else [])
    assert scene.server.submitted == []
    job = scene.after(60)
    assert scene.server.submitted == [(scene.job_id, 2, {})]
    assert (job.status, job.attempt, job.again_at, job.message) == (JobState.QUEUED, 2, None, "")
    assert scene.after(3600).flow_run_id == job.flow_run_id  # it waits in the queue like the first run


@pytest.mark.parametrize("state", ["RUNNING", "CANCELLING"])
def test_a_run_whose_process_died_before_it_opened_the_job_does_not_hold_its_queue_for_ever(scene, state):
    """A run that says RUNNING takes a slot of its deployment, so all jobs behind it would wait."""
    run_id = "11111111-1111-1111-1111-111111111111"
    scene.jobs.set_run(scene.job_id, 1, run_id)
    scene.server.states[run_id] = state
    assert scene.after(OPENING_SECONDS - 1).attempt == 1
    job = scene.after(2)
    reason = "The process that was to run the job died before it began."
    assert scene.server.ended == [(run_id, reason)]
    if state == "RUNNING":
        assert (job.status, job.attempt, job.attempts[0].reason) == (JobState.QUEUED, 2, reason)
    else:
        assert (job.status, job.cancelled) == (JobState.FAILED, True)


def test_a_run_that_opens_its_job_late_is_left_alone(scene):
    run_id = "11111111-1111-1111-1111-111111111111"
    scene.jobs.set_run(scene.job_id, 1, run_id)
    scene.server.states[run_id] = "RUNNING"
    scene.after(OPENING_SECONDS - 1)
    scene.jobs.open(scene.job_id, run_id, 1, "{}", lease=True)
    assert scene.after(3600).attempt == 1
    scene.jobs.leases.release(scene.job_id)


def test_every_retry_keeps_the_deployment_and_the_place_in_the_queue(scene):
    first = begin_run(scene, "CRASHED")
    scene.after(10)
    scene.server.states[second := scene.after(60).flow_run_id] = "CRASHED"
    scene.after(10)
    job = scene.after(60)
    since = job.created_at
    assert (job.attempt, scene.server.submitted_after) == (3, [(first, since), (second, since)])


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("FAILED", "The run ended as failed: as it said. and more. Start the job again."),
        ("CANCELLED", "The run was cancelled in the Prefect UI: as it said. and more."),
        ("CANCELLING", "The process that ran the job has died."),
    ],
)
def test_failed_and_cancelled_runs_are_not_retried(scene, state, error):
    begin_run(scene, state)
    job = scene.after(60)
    assert (job.status, job.error, job.cancelled) == (JobState.FAILED, error, state != "FAILED")
    scene.after(3600)
    assert scene.server.submitted == []


def test_a_run_cancelled_in_the_prefect_ui_before_it_begins_ends_its_job(scene, prefect_runs, stack):
    """As the UI does, on a real server."""
    api = stack.settings.prefect_api_url
    run_id = prefect_runs.submit(scene.job_id, 1, {"video_url": "https://example.org/talk.mp4"})
    scene.jobs.set_run(scene.job_id, 1, run_id)
    scene.reconciler.runs = prefect_runs
    assert scene.after(60).status is JobState.QUEUED
    wanted = {"state": {"type": "CANCELLING"}}
    httpx.post(f"{api}/flow_runs/{run_id}/set_state", json=wanted, timeout=60).raise_for_status()
    assert scene.after(60).is_cancelled
    job = scene.after(3600)
    assert (job.status, job.attempt, job.is_cancelled) == (JobState.FAILED, 1, True)
    assert job.error.startswith("The run was cancelled in the Prefect UI")
    named = {"flow_runs": {"tags": {"all_": [scene.job_id]}}}
    assert len(httpx.post(f"{api}/flow_runs/filter", json=named, timeout=60).raise_for_status().json()) == 1


def test_a_job_is_retried_three_times_with_growing_pauses(scene):
    for attempt in range(1, 5):
        begin_run(scene, "CRASHED", f"{attempt}1111111-1111-1111-1111-111111111111", attempt=attempt)
        job = scene.after(60)
    assert (job.status, job.attempt) == (JobState.FAILED, 4)
    assert job.error.endswith("It was retried 3 times; start it by hand.")
    assert [one.reason for one in job.attempts] == ["The run ended as crashed: as it said. and more."] * 4
    assert all(one.ended_at >= one.began_at for one in job.attempts)
    pauses = [
        event["message"].rpartition(" in ")[2]
        for _, event in JobEvents(scene.jobs.connection).read(scene.job_id)
        if "next attempt" in event["message"]
    ]
    assert pauses == ["5 seconds.", "20 seconds.", "80 seconds."]
    # A manual start resets the count.
    assert scene.jobs.reopen(scene.job_id, after=4) == 5
    begin_run(scene, "CRASHED", "51111111-1111-1111-1111-111111111111", attempt=5)
    assert (scene.after(60).attempt, scene.after(60).status) == (6, JobState.QUEUED)


def test_a_job_waiting_for_its_retry_can_be_cancelled(scene):
    begin_run(scene, "CRASHED")
    assert scene.after(10).attempt == 2
    assert scene.jobs.cancel(scene.job_id, 2)
    assert scene.after(3600).status is JobState.FAILED
    assert scene.server.submitted == []


def test_another_process_can_submit_a_pending_retry(scene):
    begin_run(scene, "CRASHED")
    assert scene.after(10).attempt == 2
    scene.clock.now += 60
    Reconciler(scene.jobs, scene.server, clock=lambda: scene.clock.now).step()
    assert scene.server.submitted == [(scene.job_id, 2, {})]


def test_submitting_a_retry_is_repeated_for_an_hour(scene):
    begin_run(scene, "CRASHED")
    scene.server.refuses = True
    assert scene.after(10).attempt == 2
    assert scene.after(1800).status is JobState.QUEUED
    job = scene.after(3600)
    assert (job.status, job.start_error) == (JobState.FAILED, "The Prefect server answered 503 to deployments.")


def test_jobs_interrupted_by_a_stop_are_resumed_at_once(scene):
    run_id = begin_run(scene, "RUNNING")
    (left,) = scene.reconciler.resume_interrupted()
    assert (left.job_id, left.stage) == (scene.job_id, Stage.RENDER)
    job = scene.jobs.get(scene.job_id)
    assert (job.status, job.attempts[0].reason) == (JobState.QUEUED, "KangKlip was stopped while the job ran.")
    assert scene.server.ended == [(run_id, "KangKlip was stopped while the job ran.")]
    (again,) = scene.reconciler.resume_interrupted()
    assert again.job_id == scene.job_id  # until it has a run
    assert serve._resumption(left) == f"Resuming {scene.job_id} from RENDER (70 %)"
    assert serve._resumption(again) == f"Resuming {scene.job_id} with attempt 2"


@pytest.mark.parametrize("state", ["CANCELLING", "CANCELLED"])
def test_a_cancelled_job_is_not_resumed(scene, state):
    begin_run(scene, state)
    assert scene.reconciler.resume_interrupted() == []
    job = scene.jobs.get(scene.job_id)
    assert (job.status, job.attempt, job.is_cancelled) == (JobState.FAILED, 1, True)


def test_a_job_that_runs_elsewhere_is_not_resumed(scene):
    begin_run(scene, "RUNNING")
    assert scene.jobs.leases.hold(scene.job_id)
    assert scene.reconciler.resume_interrupted() == []
    scene.jobs.leases.release(scene.job_id)


def test_a_job_whose_run_vanished_is_retried(scene):
    begin_run(scene, "RUNNING")
    scene.server.states.clear()
    scene.clock.now += DEAD_SECONDS + 1
    assert "vanished" in scene.after(20).attempts[0].reason


def test_a_job_leased_by_a_live_process_is_left_alone(scene):
    begin_run(scene, "CRASHED")
    assert scene.jobs.leases.hold(scene.job_id)
    assert scene.after(3600).status is JobState.RUNNING
    scene.jobs.leases.release(scene.job_id)


def test_a_remote_run_without_a_lease_is_left_alone(scene):
    begin_run(scene, "RUNNING", leased=False)
    assert scene.after(3600).status is JobState.RUNNING
    scene.jobs.set_deployment(JobRef(job_id=scene.job_id), "a-nosana-deployment")
    assert scene.after(3600).status is JobState.RUNNING


def test_a_job_may_wait_for_a_worker_for_a_day(scene):
    scene.jobs.set_run(scene.job_id, 1, run_id := "22222222-2222-2222-2222-222222222222")
    scene.server.states[run_id] = "SCHEDULED"
    assert scene.after(86400).status is JobState.QUEUED


def test_a_pending_run_that_its_worker_never_starts_is_ended(scene):
    scene.jobs.set_run(scene.job_id, 1, run_id := "33333333-3333-3333-3333-333333333333")
    scene.server.states[run_id] = "PENDING"
    assert scene.after(PENDING_SECONDS / 2).status is JobState.QUEUED
    assert scene.after(PENDING_SECONDS).attempts[0].reason == "The run was given to a worker that never started it."
    assert scene.server.ended[0][0] == run_id


def test_a_pending_run_with_a_nosana_deployment_is_left_to_its_worker(scene):
    scene.jobs.set_run(scene.job_id, 1, run_id := "55555555-5555-5555-5555-555555555555")
    scene.jobs.set_deployment(JobRef(job_id=scene.job_id), "a-nosana-deployment")
    scene.server.states[run_id] = "PENDING"
    assert scene.after(3600).status is JobState.QUEUED


def test_a_pending_run_is_left_alone_while_its_worker_holds_the_watch_lease(scene):
    scene.jobs.set_run(scene.job_id, 1, run_id := "66666666-6666-6666-6666-666666666666")
    scene.server.states[run_id] = "PENDING"
    assert scene.jobs.leases.hold(watch_lease(run_id))
    job = scene.after(3600)
    assert (job.status, job.attempt, scene.server.ended) == (JobState.QUEUED, 1, [])
    scene.jobs.leases.release(watch_lease(run_id))  # a dead worker's lease expires
    assert scene.after(PENDING_SECONDS).attempts[0].reason == "The run was given to a worker that never started it."


def test_a_job_without_a_run_is_submitted(scene):
    assert scene.after(30).flow_run_id is None
    job = scene.after(60)
    assert (job.status, job.attempt, scene.server.submitted) == (JobState.QUEUED, 1, [(scene.job_id, 1, {})])
    assert job.flow_run_id is not None


def test_a_run_that_looks_dead_only_once_is_left_alone(scene):
    run_id = begin_run(scene, "CRASHED")
    scene.reconciler.step()
    scene.server.states[run_id] = "SCHEDULED"
    scene.reconciler.step()
    scene.server.states[run_id] = "CRASHED"
    assert scene.after(1).status is JobState.RUNNING


def test_nothing_changes_while_the_server_is_unreachable(scene):
    begin_run(scene, "CRASHED")
    scene.server.away = True
    with pytest.raises(SubmitError):
        scene.reconciler.step()
    assert scene.jobs.get(scene.job_id).status is JobState.RUNNING


def test_an_attempt_opened_meanwhile_is_not_touched(scene):
    begin_run(scene, "CRASHED")
    scene.reconciler.step()
    scene.jobs.report(Report(job_id=scene.job_id, status=JobState.FAILED, error="by itself"))
    assert scene.jobs.reopen(scene.job_id, after=1) == 2
    scene.server.states.clear()
    scene.jobs.set_run(scene.job_id, 2, run_id := "44444444-4444-4444-4444-444444444444")
    scene.server.states[run_id] = "SCHEDULED"
    assert scene.after(3600).status is JobState.QUEUED


def test_of_jobs_that_wait_neither_the_record_nor_the_run_is_read(scene):
    ids = [new_job_id() for _ in range(30)]
    for job_id in ids:
        scene.jobs.create(job_id, "{}")
        scene.jobs.set_run(job_id, 1, run_id := str(uuid5(NAMESPACE_OID, job_id)))
        scene.server.states[run_id] = "SCHEDULED"
    running = begin_run(scene, "RUNNING")
    read, asked, records, answer, states = [], [], scene.jobs.read, scene.server.runs, scene.server.states
    scene.jobs.read = lambda ids: read.extend(ids) or records(ids)
    scene.server.waiting = lambda run_ids: {run for run in run_ids if states[run] == "SCHEDULED"}
    scene.server.runs = lambda run_ids: asked.extend(run_ids) or answer(run_ids)
    scene.reconciler.step()
    assert (read, asked) == ([scene.job_id], [running])


def test_no_error_stops_the_reconciler(scene, monkeypatch, caplog):
    """Reconciling continues whatever the server answers."""
    monkeypatch.setattr(job_reconciler, "INTERVAL_SECONDS", 0.01)
    faults, looked = [ValueError("no JSON"), KeyError("id")], asyncio.Event()
    answer = scene.server.runs

    def runs(run_ids):
        if faults:
            raise faults.pop()
        loop.call_soon_threadsafe(looked.set)
        return answer(run_ids)

    async def watch():
        nonlocal loop
        loop = asyncio.get_running_loop()
        watching = asyncio.create_task(job_reconciler.keep_reconciling(scene.reconciler))
        await asyncio.wait_for(looked.wait(), 10)
        watching.cancel()

    loop = None
    scene.server.runs = runs
    asyncio.run(watch())
    assert len([record for record in caplog.records if record.exc_info]) == 2
