import pytest

from tasks.core.edl import EdlClip, Selection, Span
from tasks.core.output.clip_checks import ClipMeasurements, check_clip, subtract
from tasks.core.output.manifest import ClipEntry, DroppedClip, manifest
from tasks.core.output.render_plan import RenderOptions
from tasks.core.output.source_match import FrameMatch, Lag
from tasks.core.transcript import Word

CLIP = EdlClip(index=2, title="Title", hook="Hook", segments=[Span(start=5, end=20, text="a"), Span(start=40, end=55)])
WORDS = [Word(word=f"w{i}", start=i, end=i + 0.6) for i in range(20)]
ALIKE = [FrameMatch(t=5.0 * n, distance=0.02, closest=0.02, closest_t=5.0 * n) for n in range(1, 6)]
OTHER = FrameMatch(t=6.0, distance=0.9, closest=0.8, closest_t=1.0)
LATER = [FrameMatch(t=t, distance=0.2, closest=0.01, closest_t=t + 2) for t in (7.0, 8.0)]
ON_TIME = Lag(t=2.0, lag=0.01, match=0.98)
GOOD = ClipMeasurements(
    size_bytes=1000,
    duration=29.98,
    video_streams=1,
    audio_streams=1,
    video_codec="h264",
    pixel_format="yuv420p",
    width=1080,
    height=1920,
    audio_codec="aac",
    sample_rate=48000,
    video_start=0,
    video_end=29.98,
    audio_start=0,
    audio_end=29.98,
    integrated=-14.2,
    true_peak=-1.7,
    highlight=[(t / 10, 20) for t in range(300)],
    moov_first=True,
    lags=[ON_TIME],
    frame_matches=ALIKE,
)


def faults(measure: ClipMeasurements, words: list[Word] = WORDS, longest: float | None = 30, **source) -> list[str]:
    black, frozen = source.get("black", []), source.get("frozen", [])
    return [c.name for c in check_clip(measure, CLIP, RenderOptions(), black, frozen, words, longest) if not c.ok]


def test_a_good_clip_passes_every_check():
    assert faults(GOOD) == []


@pytest.mark.parametrize(
    ("broken", "name"),
    [
        ({"video_codec": "hevc"}, "video stream"),
        ({"pixel_format": "yuv444p"}, "video stream"),
        ({"video_streams": 2}, "video stream"),
        ({"sample_rate": 44100}, "audio stream"),
        ({"audio_streams": 0, "audio_codec": None}, "audio stream"),
        ({"width": 720}, "size"),
        ({"sample_aspect_ratio": 1216 / 1215}, "size"),
        ({"duration": 29.88}, "length"),
        ({"duration": 30.02}, "length"),
        ({"audio_start": 0.05}, "start"),
        ({"audio_end": 29.90}, "end"),
        ({"audio_end": None}, "end"),
        ({"integrated": -15.1}, "loudness"),
        ({"integrated": -12.9}, "loudness"),
        ({"integrated": None}, "loudness"),
        ({"true_peak": -0.9}, "true peak"),
        ({"black": [(3.0, 3.6)]}, "no black stretch"),
        ({"frozen": [(28.0, 30.0)]}, "no frozen stretch"),
        ({"highlight": [(t / 10, 0) for t in range(300)]}, "captions"),
        ({"highlight": []}, "captions"),
        ({"moov_first": False}, "fast start"),
        ({"lost_in_mono": 0.2}, "mono"),
        ({"dropouts": [(3.0, 3.2)]}, "no silent stretch"),
        ({"lags": [ON_TIME, Lag(t=9.0, lag=-0.05, match=0.98)]}, "sound"),
        ({"lags": [ON_TIME, Lag(t=9.0, lag=0.0, match=0.3)]}, "sound"),
        ({"lags": None}, "sound"),
        ({"frame_matches": [*ALIKE, OTHER]}, "picture"),
        ({"frame_matches": [*ALIKE, *LATER]}, "picture"),
        ({"frame_matches": ALIKE[1:]}, "picture"),
        ({"frame_matches": []}, "picture"),
    ],
)
def test_each_defect_fails_its_own_check_only(broken: dict, name: str):
    assert faults(GOOD.model_copy(update=broken)) == [name]


def test_a_source_too_steady_to_show_a_lag_is_named_as_such():
    steady = GOOD.model_copy(update={"lags": []})
    assert faults(steady) == []
    (sound,) = [c for c in check_clip(steady, CLIP, RenderOptions(), [], [], WORDS) if c.name == "sound"]
    assert sound.measured == "too steady to tell"


def test_black_and_frozen_stretches_of_the_source_are_allowed():
    still = GOOD.model_copy(update={"frozen": [(4.0, 9.0)], "black": [(0.0, 1.0)]})
    assert faults(still, frozen=[(4.2, 8.7)], black=[(0.0, 0.9)]) == []
    assert faults(still, frozen=[(4.2, 6.0)], black=[(0.0, 0.9)]) == ["no frozen stretch"]


def test_only_loudness_peak_and_length_can_be_corrected():
    fixable = {c.name for c in check_clip(GOOD, CLIP, RenderOptions(), [], [], WORDS) if c.fixable}
    assert fixable == {"loudness", "true peak", "length"}


def test_a_clip_without_words_needs_no_captions():
    assert faults(GOOD.model_copy(update={"highlight": []}), words=[]) == []


def test_words_shown_are_counted_in_the_right_number():
    counts = {n: check_clip(GOOD, CLIP, RenderOptions(), [], [], WORDS[:n]) for n in (1, 2)}
    measured = {n: next(c.measured for c in made if c.name == "captions") for n, made in counts.items()}
    assert measured == {1: "shown during 1 of 1 word", 2: "shown during 2 of 2 words"}


def test_subtract_returns_the_remaining_stretches():
    assert subtract((0, 10), [(2, 3), (5, 6)]) == [(0, 2), (3, 5), (6, 10)]
    assert subtract((0, 10), [(-1, 11)]) == []
    assert subtract((4, 6), [(0, 1), (8, 9)]) == [(4, 6)]


def test_the_manifest_has_the_fields_readers_rely_on():
    entry = ClipEntry(
        clip=CLIP,
        file="clip_02.mp4",
        poster="clip_02.jpg",
        duration=29.98,
        size_bytes=10,
        sha256="ab",
        checks=check_clip(GOOD, CLIP, RenderOptions(), [], [], WORDS),
        encoder="libx264",
        encoder_reason="asked for",
        gain_db=1.0,
    )
    made = manifest(
        "kk_X",
        [entry],
        [DroppedClip(index=1, title="x", reason="y")],
        Selection(mode="heuristic"),
        {"asr": "base"},
        {"RENDER": 3.0},
        ["w"],
    )
    (row,) = made["clips"]
    assert {k: row[k] for k in ("index", "title", "hook", "start", "end", "duration", "file")} == {
        "index": 2,
        "title": "Title",
        "hook": "Hook",
        "start": 5,
        "end": 55,
        "duration": 29.98,
        "file": "clip_02.mp4",
    }
    assert row["segments"][0] == {"start": 5, "end": 20, "text": "a"}
    assert made["selection"]["mode"] == "heuristic"
    assert made["dropped"][0]["reason"] == "y"
    assert len(row["checks"]) == 16
