"""Clips with real faults are corrected, replaced or dropped, with real renders."""

import hashlib
import os
import threading
from pathlib import Path

import cv2
import pytest

from tasks.core.edl import EdlClip, Span
from tasks.core.errors import NoClips, UnreadableMedia
from tasks.core.output.render_plan import Correction, RenderOptions
from tasks.core.output.source_match import SourceExcerpt
from tasks.engines.ffmpeg import DiskFull, run
from tasks.engines.output import poster
from tasks.engines.output.measurements import measure_clip
from tasks.engines.weights import WeightsMissing
from tasks.stages import publish
from tasks.stages.publish import verify_clips
from tasks.stages.render import FailedClip, RenderedClip, render_clip
from tests.small_media import drawing, ffmpeg, footage

OPTIONS = RenderOptions(width=180, height=320, preset="ultrafast")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 s, different at every moment, without sound from 6 to 8 s: no clip from there can reach its loudness."""
    path = tmp_path_factory.mktemp("source") / "a.mp4"
    picture = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=12,hue=h=20*t,rotate=a=0.2*t:c=gray"]
    level = "volume='(0.6+0.4*sin(9*t+t*t))*(1-between(t,6,8))':eval=frame"
    sound = ["-f", "lavfi", "-i", f"anoisesrc=c=pink:a=0.3:d=12:r=48000:seed=1,asetnsamples=480,{level}"]
    ffmpeg(*picture, *sound, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", path)
    return path


def cut(index: int, start: float, end: float) -> EdlClip:
    title = f"from {start:g}"
    return EdlClip(index=index, title=title, hook="h", segments=[Span(start=start, end=end, text=f"{title}, h.")])


SILENT, GOOD, OTHER, OVERLAPPING = cut(1, 6.1, 7.9), cut(2, 0.5, 2.5), cut(9, 3, 5), cut(8, 2, 4)


class Renders:
    """Renders clips and records the requests. The loudness is always off by `bias` dB."""

    bias = 0.0

    def __init__(self, source: Path, out: Path) -> None:
        self.source, self.out = source, out
        self.requests: list[tuple[str, Correction]] = []

    def __call__(self, clip: EdlClip, correction: Correction) -> RenderedClip:
        self.requests.append((clip.title, correction))
        correction = correction.model_copy(update={"extra_gain": correction.extra_gain + self.bias})
        return render_clip(drawing(clip), footage(self.source), OPTIONS, self.out, correction=correction)


@pytest.fixture
def render(source: Path, tmp_path: Path) -> Renders:
    return Renders(source, tmp_path)


def test_good_clips_are_published_unchanged(render: Renders):
    first = render(GOOD, Correction())
    reports: list[float] = []
    done = verify_clips([first], render, [OTHER], OPTIONS, longest=2, progress=reports.append)
    (clip,) = done.clips
    assert len(render.requests) == 1
    assert clip.sha256 == hashlib.sha256(clip.path.read_bytes()).hexdigest()
    assert clip.size_bytes == clip.path.stat().st_size
    assert (clip.file, clip.history, done.dropped) == ("clip_02.mp4", [], [])
    assert all(check.ok for check in clip.checks)
    assert reports == [1.0]


@pytest.mark.parametrize("bias", [-4.0, 3.0])
def test_wrong_loudness_is_corrected_by_one_more_render(render: Renders, bias: float):
    render.bias = bias
    done = verify_clips([render(GOOD, Correction())], render, [OTHER], OPTIONS)
    (clip,) = done.clips
    assert clip.clip == GOOD
    assert "rendered again: loudness" in clip.history[0]
    assert [title for title, _ in render.requests] == [GOOD.title] * 2


def test_a_clip_above_the_longest_duration_is_shortened_by_a_frame(render: Renders):
    done = verify_clips([render(GOOD, Correction())], render, [], OPTIONS, longest=1.98)
    (clip,) = done.clips
    assert clip.duration == pytest.approx(1.96, abs=0.001)
    assert render.requests[-1][1].dropped_frames == 1


def test_a_clip_that_cannot_be_corrected_is_replaced_under_its_index(render: Renders):
    silent, good = render(SILENT, Correction()), render(GOOD, Correction())
    done = verify_clips([silent, good], render, [OVERLAPPING, OTHER], OPTIONS)
    assert [(c.clip.index, c.clip.title, c.file) for c in done.clips] == [
        (1, OTHER.title, "clip_01.mp4"),
        (2, GOOD.title, "clip_02.mp4"),
    ]
    assert [(d.index, d.title) for d in done.dropped] == [(1, SILENT.title)]
    assert "loudness" in done.dropped[0].reason
    assert f"replaces “{SILENT.title}”" in done.clips[0].history[0]
    assert OVERLAPPING.title not in [title for title, _ in render.requests]


def test_a_clip_of_the_wrong_size_is_replaced_without_another_render(render: Renders):
    broken = render(GOOD, Correction())
    shrunk = broken.path.with_name("x.mp4")
    ffmpeg("-i", broken.path, "-vf", "scale=90:160", "-c:a", "copy", "-movflags", "+faststart", shrunk)
    shrunk.replace(broken.path)
    done = verify_clips([broken], render, [OTHER], OPTIONS)
    assert done.clips[0].clip.title == OTHER.title
    assert [title for title, _ in render.requests] == [GOOD.title, OTHER.title]
    assert "size" in done.dropped[0].reason


@pytest.mark.parametrize(("name", "streams"), [("picture", ("1:v", "0:a")), ("sound", ("0:v", "1:a"))])
def test_a_clip_with_picture_or_sound_from_elsewhere_is_replaced(render: Renders, name: str, streams: tuple[str, str]):
    good, other = render(GOOD, Correction()), render(cut(9, 9, 11), Correction())
    maps = [word for stream in streams for word in ("-map", stream)]
    mixed = good.path.with_name("x.mp4")
    ffmpeg("-i", good.path, "-i", other.path, *maps, "-c", "copy", "-movflags", "+faststart", mixed)
    mixed.replace(good.path)
    done = verify_clips([good], render, [OTHER], OPTIONS)
    assert [clip.clip.title for clip in done.clips] == [OTHER.title]
    assert f"{name}: " in done.dropped[0].reason


@pytest.mark.parametrize("kept", [0, 0.001, 0.03, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_replaced(render: Renders, kept: float):
    torn = render(GOOD, Correction())
    content = torn.path.read_bytes()
    torn.path.write_bytes(content[: int(kept * len(content))])
    done = verify_clips([torn], render, [OTHER], OPTIONS)
    assert done.clips[0].clip.title == OTHER.title
    assert done.dropped[0].reason.startswith("readable: ")


def test_without_a_spare_a_bad_clip_is_dropped_with_its_reason(render: Renders):
    done = verify_clips([render(SILENT, Correction()), render(GOOD, Correction())], render, [], OPTIONS)
    assert [c.clip.index for c in done.clips] == [2]
    assert done.dropped[0].index == 1
    assert any("clip 1 was dropped" in warning for warning in done.warnings)


def test_clips_that_failed_to_render_are_replaced(render: Renders):
    failed = [FailedClip(clip=cut(1, 90, 92), reason="the source is damaged there")]
    done = verify_clips([render(GOOD, Correction()), *failed], render, [OTHER], OPTIONS)
    assert [(c.clip.index, c.clip.title) for c in done.clips] == [(1, OTHER.title), (2, GOOD.title)]
    assert done.dropped[0].reason == "the source is damaged there"


def test_a_spare_that_would_overlap_after_snapping_is_passed_over(render: Renders):
    def moving(clip: EdlClip, correction: Correction) -> RenderedClip:
        return render(cut(clip.index, clip.segments[0].start - 0.4, clip.segments[0].end), correction)

    failed = [FailedClip(clip=cut(index, 90, 92), reason="the source is damaged there") for index in (1, 2)]
    touching, apart = cut(8, 0.5, 2.8), cut(7, 9, 11)
    done = verify_clips(failed, moving, [OTHER, touching, apart], OPTIONS)
    assert [clip.clip.segments[0].start for clip in done.clips] == [2.6, 8.6]


def test_spares_that_cannot_be_rendered_are_passed_over(render: Renders):
    done = verify_clips([render(SILENT, Correction())], render, [cut(7, 90, 92), OTHER], OPTIONS)
    assert [c.clip.title for c in done.clips] == [OTHER.title]
    assert [d.title for d in done.dropped][1:] == ["from 90"]


def test_no_clip_at_all_is_an_error_with_reasons(render: Renders):
    with pytest.raises(NoClips, match="loudness"):
        verify_clips([render(SILENT, Correction())], render, [], OPTIONS)


def test_bugs_are_not_treated_as_bad_clips(render: Renders):
    silent = render(SILENT, Correction())

    def buggy(clip: EdlClip, correction: Correction) -> RenderedClip:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        verify_clips([silent], buggy, [OTHER], OPTIONS)


def test_a_source_that_becomes_unreadable_gives_no_clips(render: Renders):
    silent = render(SILENT, Correction())

    def gone(clip: EdlClip, correction: Correction) -> RenderedClip:
        raise UnreadableMedia("The source is gone.")

    with pytest.raises(NoClips, match="could not be rendered"):
        verify_clips([silent], gone, [OTHER], OPTIONS)


def test_a_correction_that_cannot_be_rendered_drops_its_clip_once(render: Renders):
    render.bias = -4.0
    quiet = render(GOOD, Correction())

    def gone(clip: EdlClip, correction: Correction) -> RenderedClip:
        if clip.title == GOOD.title:
            raise UnreadableMedia("The source is gone.")
        return render(clip, correction.model_copy(update={"extra_gain": 4.0}))

    done = verify_clips([quiet], gone, [OTHER], OPTIONS)
    assert [clip.clip.title for clip in done.clips] == [OTHER.title]
    (dropped,) = done.dropped
    assert "loudness" in dropped.reason
    assert "could not be rendered: The source is gone" in dropped.reason


def test_a_full_disk_drops_no_clip(render: Renders):
    silent = render(SILENT, Correction())

    def full(clip: EdlClip, correction: Correction) -> RenderedClip:
        run(["-f", "lavfi", "-i", "testsrc=s=64x64:d=1", "-f", "rawvideo", "/dev/full"], 30)
        raise AssertionError

    with pytest.raises(DiskFull):
        verify_clips([silent], full, [OTHER], OPTIONS)


def test_measuring_uses_one_thread_on_one_core(render: Renders, monkeypatch):
    before = os.sched_getaffinity(0)
    clips = [render(GOOD, Correction()), render(OTHER.model_copy(update={"index": 3}), Correction())]
    at_once: set[int] = set()

    def measure(path: Path, source: SourceExcerpt, *drawn: object):
        at_once.add(threading.get_ident())
        return measure_clip(path, source, *drawn)

    monkeypatch.setattr(publish, "measure_clip", measure)
    os.sched_setaffinity(0, {min(before)})
    try:
        verify_clips(clips, render, [], OPTIONS)
    finally:
        os.sched_setaffinity(0, before)
    assert len(at_once) == 1


def test_a_clip_whose_title_is_not_spoken_is_replaced(render: Renders):
    strange = GOOD.model_copy(update={"title": "Four elephants"})
    spare = OTHER.model_copy(update={"title": "Clip 9"})
    done = verify_clips([render(strange, Correction())], render, [spare], OPTIONS)
    assert [(clip.clip.index, clip.clip.title) for clip in done.clips] == [(2, "Clip 2")]
    assert "title: nobody says four, elephants, wanted only words said in the clip" in done.dropped[0].reason


def test_a_file_that_does_not_show_what_was_drawn_is_decoded_and_the_manifest_says_so(render: Renders):
    """It passes all checks all the same: a frame was said to be missing."""
    clip = render(GOOD, Correction())
    assert clip.drawn
    clip.drawn.frames += 1
    done = verify_clips([clip], render, [], OPTIONS)
    assert done.warnings == ["clip 2: its file does not show what was drawn; all of it was decoded and measured"]
    assert all(check.ok for check in done.clips[0].checks)


def test_a_clip_has_a_poster_even_if_no_faces_can_be_looked_for(render: Renders, monkeypatch: pytest.MonkeyPatch):
    def missing():
        raise WeightsMissing("No weights for the face detector.")

    monkeypatch.setattr(poster, "yunet", missing)
    done = verify_clips([render(GOOD, Correction())], render, [], OPTIONS)
    (clip,) = done.clips
    assert (clip.poster, clip.poster_path.name) == ("clip_02.jpg", "clip_02.jpg")
    assert cv2.imread(str(clip.poster_path)).shape == (OPTIONS.height, OPTIONS.width, 3)
    told = "no faces were looked for when its poster was chosen: No weights for the face detector."
    assert (clip.warnings, done.warnings) == ([told], [f"clip 2: {told}"])
    assert clip.entry.poster == "clip_02.jpg"
