"""Edited clips, drawn and checked: what a document says is seen and heard."""

import json
from pathlib import Path
from typing import Any

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from infra.settings import SMALLEST_SIDE
from tasks.core.appearance import Ratio
from tasks.core.captions.presets import PRESETS, Look
from tasks.core.edit.document import EditDocument, first_revision
from tasks.core.edit.drawing import Drawing, derived_edl, drawings
from tasks.core.edl import EdlClip, Span
from tasks.core.output.render_plan import RenderOptions
from tasks.core.picture.placement import rows_above
from tasks.core.transcript import Segment, Speech, Word
from tasks.engines.footage import Footage
from tasks.engines.hardware import AsrOptions
from tasks.engines.output.measurements import measure_clip
from tasks.engines.picture.faces import FaceDetector
from tasks.engines.weights import yunet
from tasks.stages.publish import VerifiedClip, verify_clips
from tasks.stages.render import RenderedClip, render_clip
from tasks.stages.transcribe import transcribe_source
from tests.folders import MEDIA
from tests.small_media import ffmpeg, footage

CROP = {"kind": "crop", "at": 0.5}
OPTIONS = RenderOptions(width=180, height=320, preset="ultrafast")
WORDS = [Word(**word) for word in json.loads((MEDIA / "sample.json").read_text())["words"]]
SPEECH = Speech([Segment(text="", start=0, duration=180, words=WORDS)], "en")
START, END = 66.4, 74.9
"""Walter came in one night with a toaster under his arm. I said, What is wrong with it? He said, Nothing at all, it
works."""
QUESTION = range(161, 168)
CHOSEN = EdlClip(index=1, title="", hook="", segments=[Span(start=START, end=END)])


@pytest.fixture(scope="module")
def sample() -> Footage:
    return footage(MEDIA / "sample.mp4")


def drawn(framing: dict[str, Any], **changes: Any) -> Drawing:
    """The only clip of a document, as it is drawn."""
    content = first_revision([CHOSEN], "a" * 64, WORDS).model_dump(mode="json")
    content["clips"][0] |= {"segments": [{"start": START, "end": END, "framing": framing}], **changes}
    document = EditDocument.model_validate(content)
    (drawing,) = drawings(document, derived_edl(document, [CHOSEN], SPEECH), SPEECH)
    return drawing


@pytest.fixture(scope="module")
def edited(sample: Footage, tmp_path_factory: pytest.TempPathFactory) -> RenderedClip:
    """Square, with a crop at rest, without the question, and with another name in the captions."""
    words = {"removed": list(QUESTION), "corrected": [{"index": 150, "text": "Wálter"}], "hidden": [157]}
    drawing = drawn(CROP, ratio="1:1", words=words)
    return render_clip(drawing, sample, OPTIONS, tmp_path_factory.mktemp("edited"))


@pytest.fixture(scope="module")
def published(edited: RenderedClip) -> VerifiedClip:
    (clip,) = verify_clips([edited], lambda clip, correction: pytest.fail("rendered again"), [], OPTIONS).clips
    return clip


def test_an_edited_clip_meets_the_output_contract(published: VerifiedClip):
    assert [check.name for check in published.checks if not check.ok] == []
    assert {check.name: check.measured for check in published.checks}["size"] == "180x180 SAR 1"
    assert published.duration == pytest.approx(END - START - (72.33 - 70.32), abs=0.05)


def test_captions_and_subtitles_have_the_corrected_word_and_only_subtitles_the_hidden_one(
    published: VerifiedClip, edited: RenderedClip
):
    said = " ".join(published.subtitle_texts["srt"].split())
    assert "Wálter came in one night" in said
    assert "toaster" in said
    assert "wrong" not in said
    assert "toaster" not in [word.word for word in edited.drawing.captioned]


def test_removed_words_are_not_heard(edited: RenderedClip, tmp_path: Path):
    options = AsrOptions(cache=tmp_path, model="base", device="cpu")
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    heard = transcribe_source(edited.path, "en", options, ffmpeg, lambda *_: None)
    text = " ".join(segment.text for segment in heard.segments).lower()
    assert "under his arm" in text
    assert "nothing at all" in text
    assert not [word for word in ("what", "wrong", "with it") if word in text]


def is_smooth(made: RenderedClip) -> bool:
    """Whether the second difference at the first join is no larger than that of the speech around it."""
    with av.open(str(made.path)) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    bend = np.abs(np.diff(sound, 2))
    join = round(made.clip.segments[0].duration * 48_000)
    around = bend[join - 48_000 : join + 48_000]
    return bool(bend[join - 1_500 : join + 1_500].max() < np.percentile(around, 99))


def test_a_join_makes_no_click(edited: RenderedClip):
    assert is_smooth(edited)


@pytest.mark.long
@pytest.mark.parametrize("preset", PRESETS)
def test_captions_of_every_preset_are_seen_in_the_smallest_clip(sample: Footage, tmp_path: Path, preset: str):
    drawing = drawn({"kind": "fit"}, ratio="1:1", captions={"preset": preset})
    made = render_clip(drawing, sample, OPTIONS, tmp_path)
    (clip,) = verify_clips([made], lambda clip, correction: pytest.fail("rendered again"), [], OPTIONS).clips
    measured = {check.name: check for check in clip.checks}
    assert measured["size"].measured == f"{SMALLEST_SIDE}x{SMALLEST_SIDE} SAR 1"
    assert [check.name for check in clip.checks if not check.ok] == []


@pytest.fixture(scope="module")
def dialog(tmp_path_factory: pytest.TempPathFactory) -> Footage:
    """The sample's speaker, who does not move much, beside her mirror image."""
    path = tmp_path_factory.mktemp("dialog") / "dialog.mp4"
    halves = "[0:v]crop=640:720:0:0,split[a][b];[b]hflip[c];[a][c]hstack[v]"
    encode = ("-map", "[v]", "-map", "0:a", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", path)
    ffmpeg("-t", 4, "-i", MEDIA / "sample.mp4", "-filter_complex", halves, *encode)
    return footage(path)


@pytest.mark.parametrize("ratio", ["9:16", "4:5"])
def test_two_people_are_shown_one_above_the_other_each_once_and_captions_between_them(
    dialog: Footage, tmp_path: Path, ratio: Ratio
):
    segments = [{"start": 0.2, "end": 3.8, "framing": {"kind": "people"}}]
    made = render_clip(drawn({}, segments=segments, ratio=ratio), dialog, OPTIONS, tmp_path)
    (shot,) = made.shots
    assert (shot.layout, shot.reason, made.warnings) == ("split", "two people", [])
    upper, lower = (key.x for key in shot.keys)
    assert upper + shot.crop_width <= 640 <= lower
    detector = FaceDetector(yunet())
    with av.open(str(made.path)) as container:
        pictures = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)][10::30]
    for picture in pictures:
        middle = 2 * round(picture.shape[0] / 4)
        halves = [cv2.resize(half, None, fx=3, fy=3) for half in (picture[:middle], picture[middle:])]
        found = [detector.detect(half, 0.0, 1.0) for half in halves]
        assert [len(faces) for faces in found] == [1, 1]
        for half, (face,) in zip(halves, found, strict=True):
            assert abs(face.x / half.shape[1] - 0.5) < 0.25
            assert face.y - 0.7 * face.height > 0
    assert made.look.band((180, 320)).holds(0.5)
    assert made.look.band((180, 320)).bottom < 0.6


def test_without_two_people_the_camera_follows_and_a_warning_says_so(sample: Footage, tmp_path: Path):
    made = render_clip(drawn({"kind": "people"}), sample, OPTIONS, tmp_path)
    assert made.warnings == ["no two people could be shown; the camera follows faces there instead"]
    assert all(shot.reason.endswith("no two people found") for shot in made.shots)
    follows = render_clip(drawn({"kind": "auto"}), sample, OPTIONS, tmp_path)
    assert [shot.keys for shot in made.shots] == [shot.keys for shot in follows.shots]


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Footage:
    """A slide with the sample's speaker in a corner."""
    path = tmp_path_factory.mktemp("lesson") / "lesson.mp4"
    slide = "testsrc2=size=1280x720:rate=25:duration=4,hue=s=0.3[slide]"
    graph = f"{slide};[0:v]scale=448:252[small];[slide][small]overlay=812:448:shortest=1[v]"
    encode = ("-map", "[v]", "-map", "0:a", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", path)
    ffmpeg("-t", 4, "-i", MEDIA / "sample.mp4", "-filter_complex", graph, *encode)
    return footage(path)


def test_a_screen_is_shown_whole_above_its_face_and_captions_below_that(lesson: Footage, tmp_path: Path):
    segments = [{"start": 0.2, "end": 3.8, "framing": {"kind": "screen"}}]
    made = render_clip(drawn({}, segments=segments), lesson, OPTIONS, tmp_path)
    (shot,) = made.shots
    assert (shot.layout, shot.reason, made.warnings) == ("screen", "the whole picture above the face", [])
    (clip,) = verify_clips([made], lambda clip, correction: pytest.fail("rendered again"), [], OPTIONS).clips
    assert [check.name for check in clip.checks if not check.ok] == []
    with av.open(str(made.path)) as container:
        picture = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)][30]
    edge = rows_above((1280, 720), (picture.shape[1], picture.shape[0]))
    with av.open(str(lesson.video)) as container:
        source = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)][35]
    small = cv2.resize(source, (picture.shape[1], edge), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - picture[:edge]).mean() < 15
    below = cv2.resize(picture[edge:], None, fx=3, fy=3)
    (found,) = FaceDetector(yunet()).detect(below, 0.0, 1.0)
    assert abs(found.x / below.shape[1] - 0.5) < 0.2
    assert found.height / below.shape[0] > 0.2
    face_bottom = (edge + (found.y + found.height / 2) / 3) / picture.shape[0]
    assert face_bottom < made.look.rows((180, 320)).top


def test_each_kind_of_framing_that_was_not_possible_has_its_own_warning(sample: Footage, tmp_path: Path):
    kinds = [(66.4, 68.0, "people"), (68.0, 70.0, "auto"), (70.0, 71.5, "screen"), (71.5, 73.0, "people")]
    segments = [{"start": start, "end": end, "framing": {"kind": kind}} for start, end, kind in kinds]
    made = render_clip(drawn({}, segments=segments, ratio="4:5"), sample, OPTIONS, tmp_path)
    assert made.warnings == [
        "no two people could be shown; the camera follows faces there instead",
        "no face could be shown below the picture; the whole picture is shown alone there",
    ]


def test_a_crop_with_a_zoom_shows_her_face_twice_as_large(sample: Footage, tmp_path: Path):
    """The checks compare the clip with the part of the source that was asked for."""
    whole, zoomed = {"kind": "crop", "at": 0.44}, {"kind": "crop", "at": 0.44, "zoom": 2.0, "cross": 0.4}
    heights = []
    for framing in (whole, zoomed):
        made = render_clip(drawn(framing), sample, OPTIONS, tmp_path)
        (clip,) = verify_clips([made], lambda clip, correction: pytest.fail("rendered again"), [], OPTIONS).clips
        assert [check.name for check in clip.checks if not check.ok] == []
        with av.open(str(made.path)) as container:
            picture = next(container.decode(video=0)).to_ndarray(format="bgr24")
        (face,) = FaceDetector(yunet()).detect(cv2.resize(picture, None, fx=3, fy=3), 0.0, 1.0)
        heights.append(face.height)
    assert heights[1] / heights[0] == pytest.approx(2, abs=0.3)


def test_without_a_face_the_whole_picture_is_shown_alone_and_a_warning_says_so(lesson: Footage, tmp_path: Path):
    segments = [{"start": 0.2, "end": 3.8, "framing": {"kind": "screen"}}]
    made = render_clip(drawn({}, segments=segments, ratio="4:5"), lesson, OPTIONS, tmp_path)
    assert made.warnings == ["no face could be shown below the picture; the whole picture is shown alone there"]
    assert [shot.layout for shot in made.shots] == ["fit"]


def test_without_captions_the_whole_picture_lies_on_its_side(sample: Footage, tmp_path: Path):
    drawing = drawn({"kind": "fit"}, ratio="16:9", captions={"shown": False})
    made = render_clip(drawing, sample, OPTIONS, tmp_path)
    (clip,) = verify_clips([made], lambda clip, correction: pytest.fail("rendered again"), [], OPTIONS).clips
    assert {check.name: check.measured for check in clip.checks}["size"] == "320x180 SAR 1"
    assert max(pixels for _, pixels in measure_clip(made.path, made.source, made.look).highlight) == 0
    assert {shot.reason for shot in made.shots} == {"asked for"}
    assert "toaster" in clip.subtitle_texts["vtt"]
    assert made.face_log["detected"] == 0


def test_a_tight_clip_with_a_card_and_another_preset_meets_the_output_contract(sample: Footage, tmp_path: Path):
    """The appliances are inspected annually. (0.9 s of silence) So let me tell you about Walter. Walter came in ..."""
    segments = [{"start": 61.1, "end": 70.0}]
    captions = {"preset": "punch", "position": "middle"}
    hook = {"hook": "So let me tell you about Walter", "hook_overlay": True}
    drawing = drawn({"kind": "auto"}, ratio="4:5", segments=segments, captions=captions, tighten=True, **hook)
    made = render_clip(drawing, sample, OPTIONS, tmp_path)
    (clip,) = verify_clips([made], lambda clip, correction: pytest.fail("rendered again"), [], OPTIONS).clips
    assert [check.name for check in clip.checks if not check.ok] == []
    assert [(span.start, span.end) for span in made.clip.segments] == [(61.1, 63.14), (63.74, 70.0)]
    assert clip.duration == pytest.approx(8.3, abs=0.05)
    assert is_smooth(made)
    with av.open(str(made.path)) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert made.card
    rows = slice(round(made.card.top * 224) + 2, round(made.card.bottom * 224) - 2)
    white = [(frame[rows, 60:120] > 200).mean() > 0.5 for frame in frames]
    assert all(white[: round(2.9 * 25)])
    assert not any(white[round(3.1 * 25) :])


@pytest.mark.parametrize(
    ("framing", "down", "lowered"),
    [({"kind": "auto"}, 0, False), ({"kind": "auto"}, 240, True), ({"kind": "fit"}, 0, True), (CROP, 0, True)],
    ids=["a face above", "a face in the middle", "a picture that is fitted in", "faces not looked for"],
)
def test_captions_in_the_middle_are_lowered_where_they_would_cover_something(
    sample: Footage, tmp_path: Path, framing: dict[str, Any], down: int, lowered: bool
):
    path = tmp_path / "moved.mp4"
    moved = f"pad=iw:ih+{down}:0:{down},crop=iw:720:0:0"
    ffmpeg("-i", sample.video, "-vf", moved, "-t", END + 1, "-preset", "ultrafast", "-c:a", "copy", path)
    made = render_clip(drawn(framing), footage(path), OPTIONS, tmp_path)
    assert made.lowered == lowered
    assert made.look.centre((1080, 1920)) == Look(lowered=lowered).centre((1080, 1920))
