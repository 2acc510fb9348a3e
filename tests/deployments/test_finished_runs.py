"""A run that was killed after its work was done is no failure on Prefect's page. Against real servers."""

import time

import pytest

from deployments.finished_runs import DONE, LOOK_BACK_SECONDS, FinishedRuns
from infra.jobs.ids import new_job_id
from infra.jobs.record import Report
from infra.jobs.store import JobStore
from infra.states import JobState

REQUEST = {"video_url": "https://example.org/talk.mp4"}


@pytest.fixture
def jobs(stack):
    return JobStore.from_settings(stack.settings)


def crashed_run(jobs, prefect_runs, status):
    """A job of this status, and its run, which has crashed."""
    job_id = new_job_id()
    jobs.create(job_id, "{}")
    run_id = prefect_runs.submit(job_id, 1, REQUEST)
    jobs.set_run(job_id, 1, run_id)
    jobs.open(job_id, run_id, 1, "{}", lease=False)
    if status is not JobState.RUNNING:
        jobs.report(Report(job_id=job_id, attempt=1, status=status, progress=100, error="It broke."))
    prefect_runs.mark_crashed(run_id, "Process exited due to a SIGKILL signal.")
    return job_id, run_id


def test_a_run_killed_after_its_job_succeeded_is_marked_as_completed(jobs, prefect_runs):
    _, done = crashed_run(jobs, prefect_runs, JobState.SUCCEEDED)
    _, failed = crashed_run(jobs, prefect_runs, JobState.FAILED)
    job_id, died = crashed_run(jobs, prefect_runs, JobState.RUNNING)
    retried, first = crashed_run(jobs, prefect_runs, JobState.RUNNING)
    assert jobs.retry(retried, 1, "It died.")
    second = prefect_runs.submit(retried, 2, REQUEST)
    jobs.set_run(retried, 2, second)
    jobs.open(retried, second, 2, "{}", lease=False)
    jobs.report(Report(job_id=retried, attempt=2, status=JobState.SUCCEEDED, progress=100))
    finished = FinishedRuns(jobs, prefect_runs)
    assert done in finished.step()
    state = prefect_runs.run(done)["state"]
    assert (state["type"], state["message"]) == ("COMPLETED", DONE)
    assert {prefect_runs.run(run_id)["state_type"] for run_id in (failed, died, first)} == {"CRASHED"}
    assert done not in finished.step()
    jobs.report(Report(job_id=job_id, attempt=1, status=JobState.FAILED, error="over"))


def test_a_recuts_run_is_judged_by_the_recut(jobs, prefect_runs):
    job_id, _ = crashed_run(jobs, prefect_runs, JobState.SUCCEEDED)
    revision = jobs.recuts.begin(job_id, 1)
    run_id = prefect_runs.submit_recut(job_id, revision, 1)
    jobs.recuts.set_run(job_id, revision, 1, run_id)
    prefect_runs.mark_crashed(run_id, "Process exited due to a SIGKILL signal.")
    finished = FinishedRuns(jobs, prefect_runs)
    assert run_id not in finished.step(), "the job has succeeded, and its recut has not"
    jobs.recuts.open(job_id, revision, 1, run_id, jobs.leases)
    assert jobs.recuts.keep(job_id, revision, 1)
    assert jobs.recuts.publish(job_id, revision, 1)
    assert jobs.recuts.end(job_id, revision, 1, JobState.SUCCEEDED)
    jobs.leases.release(job_id)
    assert run_id in finished.step()


def test_old_crashes_and_foreign_runs_are_left_alone(jobs, prefect_runs):
    _, run_id = crashed_run(jobs, prefect_runs, JobState.SUCCEEDED)
    later = time.time() + LOOK_BACK_SECONDS + 5
    assert run_id not in FinishedRuns(jobs, prefect_runs, clock=lambda: later).step()
