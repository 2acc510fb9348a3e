"""A job's events, read at once and followed live."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.jobs.events import JobEvents
from infra.jobs.ids import new_job_id
from infra.jobs.record import Report
from infra.jobs.store import JobStore
from infra.states import JobState, Stage


@pytest.fixture
def store(stack):
    return JobStore.from_settings(stack.settings)


@pytest.fixture
def events(store):
    return JobEvents(store.connection)


@pytest.fixture
def job_id(store):
    job_id = new_job_id()
    assert store.create(job_id, "{}")
    return job_id


def running(job_id, stage, progress):
    return Report(job_id=job_id, stage=stage, progress=progress)


def test_events_hold_every_accepted_change_in_order(store, events, job_id):
    for stage in (Stage.DOWNLOAD, Stage.TRANSCRIPT, Stage.CHUNK):
        store.report(running(job_id, stage, stage.span[0]))
    store.report(running(job_id, Stage.DOWNLOAD, 5))
    found = list(events.read(job_id, block_seconds=0.05))
    assert [fields["stage"] for _, fields in found] == ["DOWNLOAD", "TRANSCRIPT", "CHUNK"]
    later = list(events.read(job_id, after=found[0][0], block_seconds=0.05))
    assert [fields["stage"] for _, fields in later] == ["TRANSCRIPT", "CHUNK"]


def test_a_repeated_report_leaves_one_event(store, events, job_id):
    for _ in range(3):
        assert store.report(running(job_id, Stage.RENDER, 70))
    assert len(list(events.read(job_id, block_seconds=0.05))) == 1


def test_events_are_followed_to_the_end(store, events, job_id):
    async def everything():
        return [fields["status"] async for _, fields in events.follow(job_id)]

    async def both():
        following = asyncio.create_task(everything())
        await asyncio.sleep(0.2)
        store.report(running(job_id, Stage.DOWNLOAD, 5))
        store.report(Report(job_id=job_id, status=JobState.SUCCEEDED, stage=Stage.DONE, progress=100))
        return await asyncio.wait_for(following, 10)

    with ThreadPoolExecutor(1) as elsewhere:  # a browser of other tests may have a loop here
        assert elsewhere.submit(asyncio.run, both()).result() == ["RUNNING", "SUCCEEDED"]
