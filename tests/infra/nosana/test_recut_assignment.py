"""An assignment of a recut's run changes the recut in the record, never the job's own attempt."""

import uuid

import pytest

from infra.errors import ConfigError, JobConflict
from infra.jobs.ids import new_job_id
from infra.jobs.leases import watch_lease
from infra.jobs.record import Report
from infra.jobs.store import JobStore
from infra.nosana.assignment import find_assignment, open_assignment
from infra.states import JobState, Stage

RUN = uuid.UUID("0198c0de-1111-7222-8333-444455556666")


@pytest.fixture
def jobs(servers):
    return JobStore.from_settings(servers.settings)


@pytest.fixture
def job_id(jobs):
    job_id = new_job_id()
    jobs.create(job_id, "{}")
    jobs.report(Report(job_id=job_id, status=JobState.SUCCEEDED, stage=Stage.DONE, progress=100))
    assert jobs.recuts.begin(job_id, 1) == 2
    yield job_id
    if job := jobs.get(job_id):
        jobs.recuts.end(job_id, 2, job.recut.attempt, JobState.FAILED)


def parameters(job_id, attempt=1):
    return {"job_id": job_id, "revision": 2, "attempt": attempt}


def test_an_opened_recut_waits_for_its_machine_and_leaves_the_jobs_lease_free(jobs, job_id):
    assignment = open_assignment(RUN, parameters(job_id), jobs)
    assignment.record_deployment("D" * 44)
    recut = jobs.get(job_id).recut
    assert (recut.state, recut.flow_run_id, recut.nosana_run_id) == (JobState.QUEUED, str(RUN), "D" * 44)
    assert not jobs.leases.is_held(job_id)
    assert find_assignment(RUN, parameters(job_id), jobs) == assignment
    with pytest.raises(JobConflict, match="another run"):
        open_assignment(uuid.uuid4(), parameters(job_id), jobs)


@pytest.mark.parametrize(
    ("end", "state", "error"),
    [
        ("mark_lost", JobState.QUEUED, None),
        ("fail", JobState.FAILED, "It broke. Send the document again. The published clips are as they were."),
        ("record_start_failure", JobState.FAILED, "It broke. Send the document again. The published clips are as th"),
    ],
)
def test_the_end_of_a_machine_ends_the_recuts_attempt_and_not_the_job(jobs, job_id, end, state, error):
    assignment = open_assignment(RUN, parameters(job_id), jobs)
    assert not assignment.has_ended()
    getattr(assignment, end)("It broke. Start the job again.")
    job = jobs.get(job_id)
    assert (job.status, job.error, job.attempt, job.recut.state) == (JobState.SUCCEEDED, None, 1, state)
    assert (job.recut.error or "").startswith(error or "")
    assert job.recut.attempt == (2 if end == "mark_lost" else 1)
    assert job.recut.nosana_run_id is None
    assert assignment.has_ended()
    assignment.fail("Too late.")
    assert jobs.get(job_id).recut.state is state


def test_a_cancelled_run_ends_the_recut_for_good(jobs, job_id):
    assignment = open_assignment(RUN, parameters(job_id), jobs)
    assignment.cancel()
    recut = jobs.get(job_id).recut
    assert (recut.state, recut.error) == (JobState.FAILED, "Cancelled. The published clips are as they were.")


def test_a_job_is_not_deleted_while_its_recuts_machine_is_watched(jobs, job_id):
    assignment = open_assignment(RUN, parameters(job_id), jobs)
    assert jobs.leases.hold(watch_lease(str(RUN)))
    with pytest.raises(JobConflict, match="has not stopped yet"):
        jobs.begin_deletion(job_id)
    assert assignment.has_ended()
    jobs.leases.release(watch_lease(str(RUN)))
    assert jobs.begin_deletion(job_id)
    assert assignment.has_ended()


def test_a_recut_succeeds_only_when_its_revision_is_published(jobs, job_id):
    jobs.recuts.open(job_id, 2, 1, str(RUN), jobs.leases)
    run = (job_id, 2, 1)
    assert not jobs.recuts.end(*run, JobState.SUCCEEDED)
    assert jobs.recuts.keep(*run)
    assert not jobs.recuts.end(*run, JobState.SUCCEEDED)
    assert jobs.recuts.publish(*run)
    assert jobs.recuts.end(*run, JobState.SUCCEEDED)
    jobs.leases.release(job_id)


@pytest.mark.parametrize("changes", [{"revision": "2"}, {"attempt": None}, {"job_id": "../x"}, {"job_id": 5}])
def test_malformed_parameters_are_refused(jobs, job_id, changes):
    with pytest.raises(ConfigError, match="flows clip and recut"):
        open_assignment(RUN, parameters(job_id) | changes, jobs)
