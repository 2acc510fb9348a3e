"""Ends of clips in a real file with three shots and words at known times."""

from pathlib import Path

import pytest

from tasks.core.edl import EdlClip, Span
from tasks.core.transcript import Segment, Word
from tasks.engines.probe import probe
from tasks.stages.ends import snap_ends
from tests.small_media import ffmpeg


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three moving shots at 25 fps: 0 to 3 s, 3 to 9 s and 9 to 12 s."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    size = "size=320x180:rate=25"
    parts = (f"testsrc={size}:d=3", f"mandelbrot={size},trim=end=6", f"testsrc2={size}:d=3,hue=h=120")
    inputs = [word for part in parts for word in ("-f", "lavfi", "-i", f"{part},format=yuv420p,setsar=1")]
    chain = "[0][1][2]concat=n=3[v]"
    ffmpeg(*inputs, "-filter_complex", chain, "-map", "[v]", "-c:v", "libx264", "-preset", "ultrafast", path)
    return path


def snapped_ends(film: Path, start: float, end: float, *words: tuple[float, float], longest: float = 8.0):
    clip = EdlClip(index=1, title="t", hook="h", segments=[Span(start=start, end=end)])
    spoken = [Word(word="word", start=a, end=b) for a, b in words]
    speech = [Segment(text="", start=0, duration=12, words=spoken)]
    (moved,) = snap_ends([clip], speech, film, probe(film), (4.0, longest))
    return moved.segments[0].start, moved.segments[0].end


def test_frames_of_neighbouring_shots_are_cut_off(film: Path):
    start, end = snapped_ends(film, 2.7, 9.26, (1.0, 2.4), (3.2, 8.8), (9.8, 10.2))
    assert start == pytest.approx(3.02, abs=0.03)
    assert end == pytest.approx(8.98, abs=0.03)


def test_no_word_is_lost_to_a_cut(film: Path):
    start, end = snapped_ends(film, 2.7, 9.26, (1.0, 2.4), (2.9, 9.1), (9.8, 10.2))
    assert 2.4 <= start <= 2.5
    assert 9.5 <= end <= 9.8


def test_a_clip_begins_after_a_fade_in(tmp_path: Path):
    """The second shot fades in from 3.0 to 3.4 s, within the pause."""
    film, size = tmp_path / "film.mp4", "size=320x180:rate=25"
    parts = (f"testsrc={size}:d=3", f"testsrc2={size}:d=9,fade=in:d=0.4")
    inputs = [word for part in parts for word in ("-f", "lavfi", "-i", f"{part},format=yuv420p,setsar=1")]
    ffmpeg(*inputs, "-filter_complex", "concat=n=2", "-c:v", "libx264", "-preset", "ultrafast", film)
    start, _ = snapped_ends(film, 3.1, 9.0, (1.0, 2.4), (3.8, 8.8), (10.0, 10.4))
    assert 3.3 < start <= 3.6


def test_the_length_stays_within_its_bounds(film: Path):
    start, end = snapped_ends(film, 2.7, 9.26, (1.0, 2.4), (2.9, 9.1), (9.8, 10.2), longest=6.6)
    assert end - start <= 6.6


def test_ends_away_from_cuts_stay_unchanged(film: Path):
    assert snapped_ends(film, 4.5, 8.2, (3.2, 4.3), (4.7, 8.0), (8.4, 8.6)) == (4.5, 8.2)
