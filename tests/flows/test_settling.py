"""UPLOAD replaces a broken clip with a spare whose ends are snapped to the cuts of its own picture."""

import shutil
from types import SimpleNamespace

import pytest

from infra.jobs.ids import new_job_id
from infra.jobs.record import JobRef
from infra.jobs.store import JobStore
from tasks.core.edl import Edl, EdlClip, Selection, Span
from tasks.core.output.render_plan import RenderOptions
from tasks.core.request import ClipRequest
from tasks.core.transcript import Segment, Word
from tasks.engines.probe import probe
from tasks.stages.render import render_clip, render_clips
from tests.small_media import drawing, ffmpeg, footage

OPTIONS = RenderOptions(width=180, height=320, preset="ultrafast")
REQUEST = ClipRequest(video_url="https://example.org/talk", clip_duration_seconds=8, min_clip_seconds=4)
CUTS = (3.0, 9.0)
WORDS = [Word(word=w, start=a, end=b) for w, a, b in (("one", 1, 2.4), ("two", 3.2, 8.8), ("three", 9.8, 17))]


def clip(index: int, start: float, end: float, word: str) -> EdlClip:
    return EdlClip(index=index, title=word, hook=word, segments=[Span(start=start, end=end, text=word)], score=index)


BROKEN, SPARE = clip(1, 11.0, 17.0, "three"), clip(6, 2.7, 9.26, "two")


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """18 s of video with cuts at 3 and 9 s, and pink noise."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    size = "size=320x180:rate=25"
    parts = (f"testsrc={size}:d=3", f"mandelbrot={size},trim=end=6", f"testsrc2={size}:d=9,hue=h=120")
    inputs = [word for part in parts for word in ("-f", "lavfi", "-i", f"{part},format=yuv420p,setsar=1")]
    sound = ["-f", "lavfi", "-i", "anoisesrc=c=pink:a=0.3:d=18:r=48000:seed=1"]
    joined = ["-filter_complex", "[0][1][2]concat=n=3[v]", "-map", "[v]", "-map", "3:a"]
    ffmpeg(*inputs, *sound, *joined, "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", path)
    return path


@pytest.fixture(scope="module")
def manifest(stack, store, film, tmp_path_factory):
    """UPLOAD's manifest after the only clip was replaced by one with a quarter of its pixels."""
    stack.apply()
    from tasks import records
    from tasks.upload import upload

    job, made = new_job_id(), tmp_path_factory.mktemp("made")
    JobStore.from_settings(stack.settings).create(job, REQUEST.model_dump_json())
    speech = [Segment(text="one two three", start=1, duration=16, words=WORDS)]
    rendered = render_clips(
        [drawing(BROKEN, speech)],
        lambda one, tell: render_clip(one, footage(film), OPTIONS, made, tell),
        1,
        lambda _: None,
    )
    (original,) = rendered.clips
    shrunk = made / "shrunk.mp4"
    ffmpeg("-i", original.path, "-vf", "scale=90:160", "-c:a", "copy", "-movflags", "+faststart", shrunk)
    name = original.path.name
    selection = Selection(mode="heuristic")
    edl = Edl(job_id=job, clips=[BROKEN], reserve=[SPARE], selection=selection)
    listed = rendered.model_dump(mode="json") | {"clips": [original.model_dump(mode="json") | {"path": name}]}

    def kept(name, content):
        return store.put_json(f"jobs/{job}/{name}", content)

    video = store.put_file(f"cache/media/{job}.mp4", shutil.copy(film, made / "source.mp4"))
    outputs = records.StageRecords(
        source=records.SourceRecord(artifacts={"video": video, "audio": video}, info=probe(film)),
        transcript=records.TranscriptRecord(
            artifacts={"transcript": kept("transcript.json", [one.model_dump(mode="json") for one in speech])},
            language="en",
            language_probability=1.0,
            model={},
        ),
        chunks=records.ChunksRecord(artifacts={}),
        edl=records.EdlRecord(artifacts={"edl": kept("edl.json", edl.model_dump(mode="json"))}, selection=selection),
        rendered=records.RenderRecord(
            artifacts={
                name: store.put_file(f"jobs/{job}/rendered/{name}", shrunk),
                "renders": kept("rendered/renders.json", listed),
            }
        ),
    )
    done = upload.fn(JobRef(job_id=job), REQUEST, OPTIONS, outputs)
    return SimpleNamespace(job=job, record=done, **store.get_json(f"jobs/{job}/manifest.json"))


def test_the_spare_clip_begins_and_ends_on_cuts(manifest):
    (published,) = manifest.clips
    assert (published["start"], published["end"]) == pytest.approx(CUTS, abs=0.05)
    assert published["start"] > CUTS[0]
    assert published["end"] < CUTS[1]
    assert published["duration"] == pytest.approx(published["end"] - published["start"], abs=0.05)
    assert all(check["ok"] for check in published["checks"])


def test_the_manifest_lists_the_dropped_clip_and_its_replacement(manifest, store):
    (published,), (lost,) = manifest.clips, manifest.dropped
    assert (published["index"], published["title"], published["file"]) == (1, "two", "clip_01.mp4")
    assert (lost["index"], lost["title"]) == (1, "three")
    assert "size: 90x160" in lost["reason"]
    assert published["history"] == [f"replaces “three”: {lost['reason']}"]
    assert manifest.record.dropped == [f"clip 1 (three): {lost['reason']}"]
    assert store.stat(f"jobs/{manifest.job}/clip_01.mp4").sha256 == published["sha256"]


def test_the_face_log_covers_the_published_clip(manifest, store):
    (log,) = store.get_json(f"jobs/{manifest.job}/face_log.json")["clips"]
    assert log["index"] == 1
    assert manifest.record.clips[0].title == "two"
