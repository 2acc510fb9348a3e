"""Jobs are deleted while others use their source, and while their own run is still alive."""

import os
import time

import pytest

from infra.errors import JobConflict, RunNotStopped
from infra.jobs.ids import new_job_id
from infra.states import JobState
from tasks.deletion import delete_job
from tests.folders import MEDIA

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def own_talk(stack, store, tmp_path_factory):
    """A request for the short sample in a file that no other test has: with a few bytes that players skip."""
    from deployments.local_run import register_file

    ignored = os.urandom(16)
    path = tmp_path_factory.mktemp("own") / "talk.mp4"
    box = (8 + len(ignored)).to_bytes(4, "big") + b"free" + ignored
    path.write_bytes((MEDIA / "short.mp4").read_bytes() + box)
    key, name = register_file(path)
    return {"source_key": key, "source_name": name, "clip_duration_seconds": 9, "clip_count": 1, "language": "en"}


@pytest.fixture(scope="module")
def first(pipeline, own_talk):
    job_id = new_job_id()
    ended = pipeline.run(job_id, own_talk)
    assert ended.returncode == 0, ended.output
    return job_id


@pytest.fixture(scope="module")
def second(pipeline, own_talk, first):
    """A job that reuses the source of the first, and loses it after DOWNLOAD has found it."""
    job_id = new_job_id()
    ended = pipeline.run(job_id, own_talk, LOSE_SOURCE="CHUNK")
    assert ended.returncode == 0, ended.output
    return job_id


def objects_of(store, job_id):
    prefixes = (f"jobs/{job_id}/", f"granted/{job_id}/")
    marks = [key for key in store.list("cache/uses/") if key.endswith(job_id)]
    return [*marks, *(key for prefix in prefixes for key in store.list(prefix))]


def media_of(pipeline, job_id):
    """The keys of the job's source in the shared cache."""
    (entry,) = pipeline.store.list(f"jobs/{job_id}/records/uses/cache/media/")
    return list(pipeline.store.list(entry.removeprefix(f"jobs/{job_id}/records/uses/")))


def test_a_source_that_vanishes_under_a_run_is_fetched_again(pipeline, second):
    job = pipeline.jobs.get(second)
    assert (job.status, job.attempt) == (JobState.SUCCEEDED, 1)
    assert pipeline.json(second, "manifest.json")["reused"] == ["TRANSCRIPT"], "the source was fetched again"
    assert len(media_of(pipeline, second)) == 2


def test_a_live_run_is_stopped_before_its_job_is_deleted(pipeline, own_talk, second, job_id):
    process = pipeline.start(job_id, own_talk, RENDER_PRESET="slow", RENDER_RESOLUTION="1080x1920")
    wait_until(lambda: (job := pipeline.jobs.get(job_id)) and job.stage == "RENDER", process)
    with pytest.raises(JobConflict, match="cancel it first"):
        delete_job(job_id, pipeline.jobs, pipeline.store)
    assert pipeline.jobs.cancel(job_id, 1)
    with pytest.raises(RunNotStopped):
        delete_job(job_id, pipeline.jobs, pipeline.store)
    assert objects_of(pipeline.store, job_id), "it has begun to delete"

    def is_deleted():
        try:
            return delete_job(job_id, pipeline.jobs, pipeline.store)
        except RunNotStopped:
            return None

    wait_until(is_deleted)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert objects_of(pipeline.store, job_id) == []
    assert pipeline.jobs.get(job_id) is None


def test_the_source_goes_with_the_last_job_that_uses_it(pipeline, own_talk, first, second):
    media = media_of(pipeline, second)
    assert delete_job(first, pipeline.jobs, pipeline.store).objects > 10
    assert objects_of(pipeline.store, first) == []
    assert [pipeline.store.exists(key) for key in (own_talk["source_key"], *media)] == [True] * 3
    delete_job(second, pipeline.jobs, pipeline.store)
    assert [pipeline.store.exists(key) for key in (own_talk["source_key"], *media)] == [False] * 3
    assert delete_job(second, pipeline.jobs, pipeline.store) is None


def wait_until(condition, process=None, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.stdout.read()
        time.sleep(0.05)
