"""RENDER keeps, repeats and shows each clip by itself."""

import itertools
import signal
import time
from typing import Any

import pytest

from infra.bucket.store import ArtifactRef
from infra.jobs.ids import new_job_id
from infra.jobs.record import JobRef
from infra.states import JobState, Stage
from tasks.caching_and_retries import StageCachePolicy
from tasks.core.edit.document import EditDocument, first_revision
from tasks.core.edit.drawing import Drawing, derived_edl, drawings
from tasks.core.edl import EdlClip, Span
from tasks.core.media import MediaInfo
from tasks.core.output.render_plan import RenderOptions
from tasks.core.transcript import Segment, Speech, Word
from tasks.records import SourceRecord
from tests.flows.test_resume import encoders_of


@pytest.mark.soak
def test_after_a_kill_and_a_stop_only_the_missing_clip_is_drawn_and_a_failed_one_is_retried_alone(
    pipeline, short, job_id
):
    killed = pipeline.run(job_id, short, RENDER_PARALLEL="1", DIE_AFTER_CLIP="1")
    assert killed.returncode == -signal.SIGKILL, killed.output
    assert pipeline.jobs.get(job_id).status is JobState.RUNNING

    process = pipeline.start(job_id, short, RENDER_PARALLEL="1")
    deadline = time.monotonic() + 120
    while not encoders_of(process.pid):
        assert time.monotonic() < deadline, "no encode began"
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    process.terminate()
    process.communicate(timeout=60)
    job = pipeline.jobs.get(job_id)
    assert job.status is JobState.FAILED
    assert "stopped" in job.error
    runs = pipeline.task_runs(job.flow_run_id)
    assert runs["clip 1"][0] == "Cached"
    assert runs["clip 2"][1] == 1, "a stopped clip was retried"

    again = pipeline.run(job_id, short, RENDER_PARALLEL="1", FAIL_CLIP="2")

    assert again.returncode == 0, again.output
    runs = pipeline.task_runs(again.flow_run_id)
    assert runs["clip 1"][0] == "Cached"
    assert runs["clip 2"] == ("Completed", 2)
    assert runs["render"] == ("Completed", 1)
    clips = pipeline.json(job_id, "manifest.json")["clips"]
    assert [clip["file"] for clip in clips] == ["clip_01.mp4", "clip_02.mp4"]
    assert [clip["history"] for clip in clips] == [[], []]


WORDS = [Word(word=f"word{i}", start=i, end=i + 0.8) for i in range(60)]
SPEECH = Speech([Segment(text="", start=0, duration=60, words=WORDS)], "en")
CHOSEN = [EdlClip(index=i, title="t", hook="h", segments=[Span(start=20 * i, end=20 * i + 10)]) for i in (1, 2)]
CHANGES: dict[str, dict[str, Any]] = {
    "beginning": {"segments": [{"start": 19.5, "end": 30}]},
    "framing": {"segments": [{"start": 20, "end": 30, "framing": {"kind": "fit"}}]},
    "correction": {"words": {"corrected": [{"index": 22, "text": "other"}]}},
    "hidden word": {"words": {"hidden": [22]}},
    "removed word": {"words": {"removed": [22]}},
    "ratio": {"ratio": "1:1"},
    "captions": {"captions": {"shown": False}},
}
NOT_DRAWN: dict[str, dict[str, Any]] = {
    "title": {"title": "another", "hook": "another", "description": "another", "hashtags": ["another"]},
    "word elsewhere": {"words": {"removed": [5], "hidden": [6], "corrected": [{"index": 55, "text": "other"}]}},
}


def drawn(**changes: Any) -> list[Drawing]:
    content = first_revision(CHOSEN, "a" * 64, WORDS).model_dump(mode="json")
    content["clips"][0] |= changes
    document = EditDocument.model_validate(content)
    return drawings(document, derived_edl(document, CHOSEN, SPEECH), SPEECH)


def key(drawing: Drawing, options: RenderOptions | None = None, video: str = "b" * 64) -> str | None:
    refs = {"video": ArtifactRef(key="v", sha256=video, size=1), "audio": ArtifactRef(key="a", sha256="c" * 64, size=1)}
    inputs = {
        "job": JobRef(job_id=JOB),
        "drawing": drawing,
        "options": options or RenderOptions(),
        "source": SourceRecord(artifacts=refs, info=MediaInfo(duration=60, size_bytes=1, container="mp4")),
        "progress": print,
    }
    return StageCachePolicy(stage=Stage.RENDER, version=1).compute_key(None, inputs, {})


JOB = new_job_id()


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_clip_alone_is_drawn_again(change):
    before, after = drawn(), drawn(**CHANGES[change])
    assert key(after[0]) != key(before[0])
    assert key(after[1]) == key(before[1])


@pytest.mark.parametrize("change", NOT_DRAWN)
def test_what_is_not_drawn_draws_nothing_again(change):
    assert [key(drawing) for drawing in drawn(**NOT_DRAWN[change])] == [key(drawing) for drawing in drawn()]


def test_another_source_or_setting_draws_again():
    drawing = drawn()[0]
    keys = [key(drawing), key(drawing, RenderOptions(crf=21)), key(drawing, video="d" * 64), key(drawn()[1])]
    assert all(one != other for one, other in itertools.combinations(keys, 2))
    assert key(drawing, RenderOptions(parallel=7)) == keys[0]
