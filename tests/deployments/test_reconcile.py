"""Jobs whose run died are ended with the true reason; those that live or wait are left alone."""

from types import SimpleNamespace

import pytest

from deployments.reconcile import GRACE_SECONDS, PENDING_SECONDS, Reconciler
from infra.errors import SubmitError
from infra.jobs import JobStore, Report, new_job_id
from infra.states import JobState, Stage


class Server:
    """A Prefect server's answers: the state of each run by its id."""

    def __init__(self):
        self.states, self.ended, self.away = {}, [], False

    def runs(self, run_ids):
        if self.away:
            raise SubmitError("The Prefect server did not answer (ConnectError).")
        return {
            run_id: {"id": run_id, "state_type": state, "state": {"message": "as it said.\nand more"}}
            for run_id, state in self.states.items()
            if run_id in run_ids
        }

    def end(self, run_id, message):
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
        """Look, wait, and look again: what is the job then?"""
        reconciler.step()
        clock.now += seconds
        reconciler.step()
        return jobs.get(job_id)

    return SimpleNamespace(jobs=jobs, server=server, job_id=job_id, after=after, clock=clock, reconciler=reconciler)


def begun(scene, state, run_id="11111111-1111-1111-1111-111111111111", *, leased=True):
    assert scene.jobs.open(scene.job_id, run_id, 1, "{}", lease=leased) == 1
    scene.jobs.release(scene.job_id)
    scene.jobs.report(Report(job_id=scene.job_id, stage=Stage.RENDER, progress=70))
    scene.server.states[run_id] = state
    return run_id


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("CRASHED", "The run ended as crashed: as it said. and more."),
        ("FAILED", "The run ended as failed: as it said. and more."),
        ("CANCELLED", "The run was cancelled in the Prefect UI: as it said. and more."),
        ("COMPLETED", "The run ended as completed: as it said. and more."),
        ("RUNNING", "The process that ran the job has died."),
    ],
)
def test_a_run_that_is_over_ends_its_job_within_a_minute(scene, state, reason):
    run_id = begun(scene, state)
    assert scene.after(1).status is JobState.RUNNING
    job = scene.after(55)
    assert (job.status, job.error) == (JobState.FAILED, f"{reason} Start the job again.")
    assert scene.server.ended == ([(run_id, reason)] if state == "RUNNING" else [])


def test_a_run_that_has_vanished_ends_its_job(scene):
    begun(scene, "RUNNING")
    scene.server.states.clear()
    scene.clock.now += GRACE_SECONDS + 1
    assert "vanished" in scene.after(20).error


def test_a_job_that_a_living_process_holds_is_left_alone(scene):
    begun(scene, "CRASHED")
    assert scene.jobs.hold(scene.job_id)
    assert scene.after(3600).status is JobState.RUNNING
    scene.jobs.release(scene.job_id)


def test_a_run_elsewhere_that_reports_by_callback_holds_no_lease_and_lives(scene):
    begun(scene, "RUNNING", leased=False)
    assert scene.after(3600).status is JobState.RUNNING
    scene.jobs.set_deployment(scene.job_id, 1, "a-nosana-deployment")
    assert scene.after(3600).status is JobState.RUNNING


def test_a_job_that_waits_for_a_worker_waits(scene):
    scene.jobs.set_run(scene.job_id, 1, run_id := "22222222-2222-2222-2222-222222222222")
    scene.server.states[run_id] = "SCHEDULED"
    assert scene.after(86400).status is JobState.QUEUED


def test_a_run_that_its_worker_never_started_is_ended(scene):
    scene.jobs.set_run(scene.job_id, 1, run_id := "33333333-3333-3333-3333-333333333333")
    scene.server.states[run_id] = "PENDING"
    assert scene.after(PENDING_SECONDS / 2).status is JobState.QUEUED
    assert scene.after(PENDING_SECONDS).status is JobState.FAILED
    assert scene.server.ended[0][0] == run_id


def test_a_pending_run_that_has_a_deployment_is_its_workers_to_watch(scene):
    scene.jobs.set_run(scene.job_id, 1, run_id := "55555555-5555-5555-5555-555555555555")
    scene.jobs.set_deployment(scene.job_id, 1, "a-nosana-deployment")
    scene.server.states[run_id] = "PENDING"
    assert scene.after(3600).status is JobState.QUEUED


def test_a_job_that_was_never_given_to_a_run_is_ended(scene):
    assert scene.after(30).status is JobState.QUEUED
    assert "never given to a run" in scene.after(60).error


def test_a_moment_of_death_is_forgiven(scene):
    run_id = begun(scene, "CRASHED")
    scene.reconciler.step()
    scene.server.states[run_id] = "SCHEDULED"
    scene.reconciler.step()
    scene.server.states[run_id] = "CRASHED"
    assert scene.after(1).status is JobState.RUNNING


def test_nothing_is_concluded_from_a_server_that_is_away(scene):
    begun(scene, "CRASHED")
    scene.server.away = True
    with pytest.raises(SubmitError):
        scene.reconciler.step()
    assert scene.jobs.get(scene.job_id).status is JobState.RUNNING


def test_an_attempt_that_was_opened_meanwhile_is_not_touched(scene):
    begun(scene, "CRASHED")
    scene.reconciler.step()
    scene.jobs.report(Report(job_id=scene.job_id, status=JobState.FAILED, error="by itself"))
    assert scene.jobs.reopen(scene.job_id, after=1) == 2
    scene.server.states.clear()
    scene.jobs.set_run(scene.job_id, 2, run_id := "44444444-4444-4444-4444-444444444444")
    scene.server.states[run_id] = "SCHEDULED"
    assert scene.after(3600).status is JobState.QUEUED
