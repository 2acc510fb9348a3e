"""A batch's memory on a real Valkey: each video has one job, even when many processes add it at once."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from infra.errors import StateError
from infra.jobs import batches
from infra.jobs.batches import BatchMemory
from infra.jobs.connection import Connection
from infra.jobs.ids import JOB_ID, new_job_id
from infra.jobs.record import Report
from infra.jobs.store import JobStore
from infra.states import JobState


@pytest.fixture
def name():
    return f"batch-{uuid4().hex[:12]}"


@pytest.fixture
def memory(servers, name):
    return BatchMemory.from_settings(servers.settings, name)


@pytest.fixture
def jobs(servers):
    return JobStore.from_settings(servers.settings)


def queue_job(jobs):
    job_id = new_job_id()
    jobs.create(job_id, "{}")
    return job_id


def end_job(jobs, status=JobState.SUCCEEDED):
    job_id = queue_job(jobs)
    jobs.report(Report(job_id=job_id, status=status))
    return job_id


def test_a_batch_without_redis_has_no_memory(embedded):
    assert BatchMemory.from_settings(embedded, "nightly") is None


def test_a_video_keeps_its_job_id(memory):
    first = memory.add("a", "what it is")
    assert JOB_ID.fullmatch(first.job_id)
    assert memory.add("a", "what it is").job_id == first.job_id
    memory.close(first)
    assert memory.add("a", "what it is").job_id == first.job_id
    assert memory.open_entries() == []
    assert memory.videos_with_job(["a", "b"]) == {"a"}
    assert memory.videos_with_job([]) == set()


def test_concurrent_runs_get_the_same_jobs(servers, name):
    def ask(_):
        memory = BatchMemory.from_settings(servers.settings, name)
        return [memory.add(f"video {n}", "{}").job_id for n in range(50)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert len({tuple(answer) for answer in answers}) == 1
    assert len(set(answers[0])) == 50


def test_unfinished_videos_are_open_to_the_next_run(servers, memory, name):
    a, b = memory.add("a", "A"), memory.add("b", "B")
    memory.close(a)
    assert BatchMemory.from_settings(servers.settings, name).open_entries() == [b]


def test_batches_of_different_names_share_nothing(servers, memory):
    other = BatchMemory.from_settings(servers.settings, f"batch-{uuid4().hex[:12]}")
    assert memory.add("a", "A").job_id != other.add("a", "A").job_id


def test_slots_are_limited_and_come_free_when_left(memory):
    assert [memory.take_slot(job_id, 2) for job_id in "abc"] == [True, True, False]
    assert memory.take_slot("a", 2), "who has one keeps it"
    memory.release_slot("a")
    assert memory.take_slot("c", 2)


def test_concurrent_requests_never_exceed_the_slots(servers, name):
    def want(n):
        return BatchMemory.from_settings(servers.settings, name).take_slot(f"job {n}", 3)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(want, range(40))) == 3


def test_slots_of_ended_jobs_come_free_after_a_grace_period(memory, jobs, monkeypatch):
    active = queue_job(jobs)
    for job_id in (end_job(jobs), end_job(jobs, JobState.FAILED), "never begun", active):
        assert memory.take_slot(job_id, 4)
    assert not memory.take_slot(queue_job(jobs), 4), "a run that has just been let in may be about to write its record"
    monkeypatch.setattr(batches, "SETTLE_SECONDS", 0)
    assert [memory.take_slot(queue_job(jobs), 4) for _ in range(4)] == [True, True, True, False]
    assert memory.take_slot(active, 1)


def test_an_unreachable_redis_is_reported_without_its_password():
    away = BatchMemory(Connection("redis://:secret@127.0.0.1:9/0"), "nightly")
    calls = (
        lambda: away.add("a", "A"),
        lambda: away.videos_with_job(["a"]),
        away.open_entries,
        lambda: away.close(batches.BatchEntry(key="a", job_id="b", record="")),
        lambda: away.take_slot("a", 1),
        lambda: away.release_slot("a"),
    )
    for call in calls:
        with pytest.raises(StateError, match="check REDIS_URL") as caught:
            call()
        assert "secret" not in str(caught.value)
