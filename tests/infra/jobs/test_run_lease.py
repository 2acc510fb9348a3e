"""A run that loses its job is interrupted with a reason."""

import time

import pytest

from infra.errors import JobConflict
from infra.jobs import run_lease
from infra.jobs.ids import new_job_id
from infra.jobs.record import JobRef, Report
from infra.jobs.run_lease import RunLease
from infra.jobs.store import JobStore
from infra.states import JobState


@pytest.fixture
def jobs(servers, monkeypatch):
    monkeypatch.setattr(run_lease, "CHECK_SECONDS", 0.1)
    return JobStore.from_settings(servers.settings)


@pytest.fixture
def job(jobs):
    job_id = new_job_id()
    jobs.create(job_id, "{}")
    return JobRef(job_id=job_id)


def work_until_interrupted(seconds):
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        time.sleep(seconds)
    assert time.monotonic() - began < seconds / 2, "woken from its wait"


def open_job(jobs, job, run="a run", **how):
    return jobs.open(job.job_id, run, None, "{}", lease=True, **how)


def test_a_job_has_one_run_at_a_time(servers, jobs, job):
    with RunLease(jobs, job.job_id):
        open_job(jobs, job)
        assert jobs.leases.is_held(job.job_id)
        other = JobStore.from_settings(servers.settings)
        with pytest.raises(JobConflict, match="is being run by another process"):
            open_job(other, job, "another run")
    assert not jobs.leases.is_held(job.job_id)


def test_a_run_stops_when_its_job_is_ended_from_outside(jobs, job):
    with RunLease(jobs, job.job_id) as lease:
        open_job(jobs, job)
        lease.guard(job)
        jobs.cancel(job.job_id, 1)
        work_until_interrupted(10)
    assert lease.loss_reason == f"Job {job.job_id} was ended from outside: Cancelled."


def test_a_run_stops_if_a_newer_attempt_exists_when_it_starts_to_watch(servers, jobs, job):
    with RunLease(jobs, job.job_id) as lease:
        open_job(jobs, job)
        jobs.cancel(job.job_id, 1)
        assert jobs.reopen(job.job_id, after=1) == 2
        lease.guard(job)
        work_until_interrupted(10)
    assert lease.loss_reason.startswith("Attempt 2 of job")


def test_a_run_that_ends_its_own_job_is_not_interrupted(jobs, job):
    with RunLease(jobs, job.job_id) as lease:
        lease.guard(job)
        lease.guard(None)
        jobs.report(Report(job_id=job.job_id, status=JobState.FAILED, error="Its own."))
        time.sleep(0.5)
    assert lease.loss_reason is None


def test_a_run_stops_when_another_takes_its_lease(servers, jobs, job, monkeypatch):
    monkeypatch.setattr(run_lease, "LEASE_SECONDS", 0.6)
    with RunLease(jobs, job.job_id) as lease:
        open_job(jobs, job)
        lease.guard(job)
        jobs.leases.release(job.job_id)
        other = JobStore.from_settings(servers.settings)
        deadline = time.monotonic() + 5
        while not other.leases.hold(job.job_id):
            assert time.monotonic() < deadline
        work_until_interrupted(10)
    assert "taken over" in lease.loss_reason
    assert jobs.leases.is_held(job.job_id)
    other.leases.release(job.job_id)


def test_without_redis_a_run_lease_does_nothing(job):
    with RunLease(None, job.job_id) as lease:
        lease.guard(job)
    assert lease.loss_reason is None
