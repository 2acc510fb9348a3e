"""Recuts of a real job: what is drawn, what is published, and what a kill at any point leaves."""

import signal
import time
from typing import Any

import pytest

from infra.errors import RunNotStopped
from infra.jobs.record import Recut
from infra.states import JobState
from tasks.core.object_keys import job_key
from tasks.deletion import delete_job

pytestmark = pytest.mark.long

FILES = [f"clip_{n:02d}.{kind}" for n in (1, 2) for kind in ("jpg", "mp4", "srt", "vtt")]
DOCUMENTS = ["edit.json", "edl.json", "face_log.json", "manifest.json"]


@pytest.fixture(scope="module")
def made(pipeline, short):
    """A finished job, and what it has published by name and digest."""
    from infra.jobs.ids import new_job_id

    job_id = new_job_id()
    done = pipeline.run(job_id, short)
    assert done.returncode == 0, done.output
    return job_id


def own_folder(pipeline, job_id: str) -> dict[str, bytes]:
    """The published files in the job's own folder."""
    return {
        name: pipeline.store.get_bytes(job_key(job_id, name))
        for name in [*FILES, *DOCUMENTS]
        if pipeline.store.exists(job_key(job_id, name))
    }


def folder(pipeline, job_id: str, revision: int) -> dict[str, bytes]:
    prefix = job_key(job_id, f"revisions/{revision}/")
    return {key.removeprefix(prefix): pipeline.store.get_bytes(key) for key in pipeline.store.list(prefix)}


def begin(pipeline, job_id: str, **changes: Any) -> int:
    """Begin a recut whose first clip is changed, as the API does."""
    base = pipeline.jobs.get(job_id).revision or 1
    revision = pipeline.jobs.recuts.begin(job_id, base)
    document = pipeline.json(job_id, "edit.json") | {"revision": revision}
    document["clips"][0] |= changes
    pipeline.store.put_json(job_key(job_id, f"revisions/{revision}/edit.json"), document)
    return revision


def recut_of(pipeline, job_id: str) -> Recut:
    found = pipeline.jobs.get(job_id).recut
    assert found
    return found


def shortened(pipeline, job_id: str, by: float = 0.4) -> dict[str, Any]:
    (segment, *more) = pipeline.json(job_id, "edit.json")["clips"][0]["segments"]
    return {"segments": [segment | {"end": segment["end"] - by}, *more]}


def test_a_recut_draws_the_changed_clip_alone_and_publishes_everything(pipeline, made):
    before = own_folder(pipeline, made)
    revision = begin(pipeline, made, title="Said by nobody", **shortened(pipeline, made))

    done = pipeline.recut(made, revision)

    assert done.returncode == 0, done.output
    assert list(pipeline.task_runs(done.flow_run_id)) == ["clip 1"]
    job = pipeline.jobs.get(made)
    assert (job.status, job.revision, job.recut.state, job.recut.progress) == (
        JobState.SUCCEEDED,
        2,
        JobState.SUCCEEDED,
        100,
    )
    after = own_folder(pipeline, made)
    assert sorted(after) == sorted([*FILES, *DOCUMENTS])
    assert folder(pipeline, made, 2) == after
    kept = folder(pipeline, made, 1)
    assert {name: kept[name] for name in FILES} == {name: before[name] for name in FILES}
    assert after["clip_02.mp4"] == before["clip_02.mp4"]
    assert after["clip_01.mp4"] != before["clip_01.mp4"]
    first, second = pipeline.json(made, "manifest.json")["clips"]
    assert (first["title"], first["file"]) == ("Said by nobody", "clip_01.mp4")
    old = pipeline.json(made, "revisions/1/manifest.json")
    assert second == old["clips"][1]
    assert first["duration"] == pytest.approx(old["clips"][0]["duration"] - 0.4, abs=0.05)
    assert pipeline.json(made, "manifest.json")["revision"] == 2
    assert pipeline.json(made, "edl.json")["clips"][0]["segments"][0]["end"] == first["end"]
    assert not list(pipeline.store.list(job_key(made, "rendered/")))


@pytest.mark.soak
@pytest.mark.parametrize("place", ["draw", "manifest", "publish", "copy"])
def test_a_killed_recut_loses_nothing_mixes_nothing_and_is_finished_by_the_next_attempt(pipeline, made, place):
    before, published = own_folder(pipeline, made), pipeline.jobs.get(made).revision
    revision = begin(pipeline, made, **shortened(pipeline, made, 0.1))

    killed = pipeline.recut(made, revision, DIE_AT=place)

    assert killed.returncode == -signal.SIGKILL, killed.output
    is_seen = place in ("publish", "copy")
    assert pipeline.jobs.get(made).revision == (revision if is_seen else published or 1)
    if place == "copy":
        assert "manifest.json" not in own_folder(pipeline, made)
    else:
        assert own_folder(pipeline, made) == before
    if is_seen:
        assert set(folder(pipeline, made, revision)) == {*FILES, *DOCUMENTS}
    assert pipeline.jobs.recuts.retry(made, revision, 1, "It was killed.")

    done = pipeline.recut(made, revision, 2)

    assert done.returncode == 0, done.output
    assert recut_of(pipeline, made).state is JobState.SUCCEEDED
    assert pipeline.jobs.get(made).revision == revision
    assert own_folder(pipeline, made) == folder(pipeline, made, revision)
    assert pipeline.json(made, "manifest.json")["revision"] == revision
    if place == "draw":
        assert pipeline.task_runs(done.flow_run_id)["clip 1"][0] == "Cached"


def test_a_clip_that_fails_a_check_fails_the_recut_and_nothing_changes(pipeline, made):
    before, published = own_folder(pipeline, made), pipeline.jobs.get(made).revision
    revision = begin(pipeline, made, **shortened(pipeline, made, 0.2))

    done = pipeline.recut(made, revision, FAIL_CHECK="1")

    assert done.returncode != 0
    job = pipeline.jobs.get(made)
    assert (job.status, job.recut.state) == (JobState.SUCCEEDED, JobState.FAILED)
    assert "mood: bad, wanted good" in job.recut.error
    assert job.recut.error.endswith("The published clips are as they were; change the document, or send it again.")
    assert job.revision == (published or 1)
    assert own_folder(pipeline, made) == before
    assert not pipeline.jobs.leases.is_held(made)


@pytest.mark.soak
def test_deleting_the_job_stops_its_recut_within_seconds_and_nothing_comes_back(pipeline, short):
    from infra.jobs.ids import new_job_id

    job_id = new_job_id()
    assert pipeline.run(job_id, short).returncode == 0
    revision = begin(pipeline, job_id, **shortened(pipeline, job_id))
    process = pipeline.start_recut(job_id, revision)
    deadline = time.monotonic() + 120
    while recut_of(pipeline, job_id).state is not JobState.RUNNING:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    while True:
        try:
            assert delete_job(job_id, pipeline.jobs, pipeline.store)
            break
        except RunNotStopped:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert pipeline.jobs.get(job_id) is None
    assert list(pipeline.store.list(job_key(job_id, ""))) == []


@pytest.mark.soak
def test_a_source_that_is_gone_is_fetched_again_and_a_title_needs_none(pipeline, made):
    pipeline.clear_shared_cache()
    titled = pipeline.recut(made, begin(pipeline, made, title="Only a title"))
    assert titled.returncode == 0, titled.output
    assert pipeline.task_runs(titled.flow_run_id) == {}
    drawn = pipeline.recut(made, begin(pipeline, made, **shortened(pipeline, made, 0.15)))
    assert drawn.returncode == 0, drawn.output
    assert set(pipeline.task_runs(drawn.flow_run_id)) == {"download", "clip 1"}
    assert own_folder(pipeline, made) == folder(pipeline, made, pipeline.jobs.get(made).revision)
