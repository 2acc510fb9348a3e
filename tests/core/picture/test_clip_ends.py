"""Ends of clips on pictures with known cuts, faces and flaws."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.core.edl import EdlClip, Span
from tasks.core.picture.clip_ends import EdgeAnalysis, Pauses, best_end, best_start, flawed_frames, pauses, with_ends
from tasks.core.transcript import Word

FPS = 25.0
HALF = 0.5 / FPS


def view(cuts=(), flawed=(), faces=(), start=8.0) -> EdgeAnalysis:
    """The analysis of 4 s; `flawed` is a stretch with flaws, `faces` one with a face."""
    times = start + np.arange(100) / FPS
    bad = [bool(flawed) and flawed[0] <= t < flawed[1] for t in times]
    samples = [float(t) for t in times[::5]]
    return EdgeAnalysis(
        start, FPS, list(cuts), bad, samples, [t for t in samples if faces and faces[0] <= t < faces[1]]
    )


@pytest.mark.parametrize(
    ("cuts", "free", "expected"),
    [
        ([10.3], (9.6, 10.5), 10.3 + HALF),
        ([9.7], (9.6, 10.5), 9.7 + HALF),
        ([10.3], (9.9, 10.2), 10.0),
        ([10.3], (9.6, 10.2), 9.78),
        ([11.5], (9.6, 10.5), 10.0),
        ([9.3], (9.6, 10.5), 10.0),
    ],
    ids=[
        "cut after",
        "cut before",
        "no way to the cut",
        "room for half a second of shot",
        "far cut",
        "cut out of reach",
    ],
)
def test_a_clip_begins_at_a_cut_or_well_before_it(cuts, free, expected):
    assert best_start(10.0, free, view(cuts), 11.0) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(
    ("cuts", "free", "expected"),
    [
        ([9.74], (9.5, 10.4), 9.74 - HALF),
        ([10.2], (9.5, 10.4), 10.2 - HALF),
        ([9.74], (9.8, 10.4), 10.26),
        ([8.5], (9.5, 10.4), 10.0),
    ],
    ids=["cut before", "cut after", "half a second of the last shot", "far cut"],
)
def test_a_clip_ends_at_a_cut_or_well_after_it(cuts, free, expected):
    assert best_end(10.0, free, view(cuts), 9.0, 11.0) == pytest.approx(expected, abs=0.05)


def test_the_length_stays_within_its_bounds():
    assert best_start(10.0, (9.6, 10.5), view([10.3]), 10.1) < 10.11
    assert best_end(10.0, (9.5, 10.4), view([10.2]), 9.0, 10.1) < 10.11
    assert best_end(10.0, (9.5, 10.4), view([9.7]), 9.9, 11.0) >= 9.9


def test_a_clip_begins_after_a_flaw_within_the_pause():
    begins = best_start(10.0, (9.6, 10.5), view(flawed=(9.5, 10.2)), 11.0)
    assert begins == pytest.approx(10.2, abs=0.05)
    assert best_start(10.0, (9.9, 10.1), view(flawed=(9.0, 11.0)), 11.0) == 10.0


def test_a_clip_begins_when_a_face_appears_within_the_pause():
    assert best_start(10.0, (9.6, 10.5), view(faces=(10.2, 12.0)), 11.0) == pytest.approx(10.2, abs=0.12)
    assert best_start(10.0, (9.6, 10.5), view(faces=(11.8, 12.0)), 11.0) == 10.0


WORDS = [Word(word=w, start=s, end=s + 0.4) for w, s in (("a", 9.0), ("b", 10.2), ("c", 14.0), ("d", 14.7))]


def test_pauses_reach_to_the_neighbouring_words():
    assert pauses(10.0, 14.5, WORDS, []) == Pauses(start=(9.5, 10.2), end=(14.4, 14.7))
    assert pauses(9.95, 14.5, WORDS[1:3], []) == Pauses(start=(9.45, 10.2), end=(14.4, 15.0))
    assert pauses(10.0, 14.5, [], []) == Pauses(start=(9.5, 10.0), end=(14.5, 15.0))


@st.composite
def boundaries(draw):
    """Ends of a clip and words around them on a grid of 20 ms; many have no length, some overlap."""
    tick = st.integers(400, 625)
    start, end = (draw(st.integers(*span)) / 50 for span in ((425, 525), (550, 600)))
    begins = draw(st.lists(tick, max_size=12))
    lengths = [draw(st.sampled_from([0, 0, 1, 10, 25])) for _ in begins]
    words = [Word(word="w", start=a / 50, end=(a + n) / 50) for a, n in zip(sorted(begins), lengths, strict=True)]
    cuts = sorted(draw(st.lists(tick, max_size=3)))
    return start, end, words, [cut / 50 + draw(st.sampled_from([-HALF, 0.0, HALF])) for cut in cuts]


def at(*spans: tuple[float, float]) -> list[Word]:
    return [Word(word="w", start=a, end=b) for a, b in spans]


@example((10.0, 12.0, at((10.2, 11.0), (11.8, 11.8)), [11.82])).via("the last word has no length")
@example((10.0, 12.0, at((9.8, 9.8), (10.2, 11.0)), [10.3])).via("the word before has no length")
@example((10.0, 12.0, at((9.0, 10.4), (10.3, 11.0)), [9.58])).via("words overlap")
@given(boundaries())
def test_moved_ends_never_change_a_clips_words(boundary):
    start, end, words, cuts = boundary
    free, analysis = pauses(start, end, words, []), view(cuts)
    begins = best_start(start, free.start, analysis, start + 1.0)
    ends = best_end(end, free.end, analysis, end - 1.0, end + 1.0)

    def words_in(a: float, b: float) -> list[Word]:
        return [word for word in words if a <= word.middle < b]

    assert words_in(begins, ends) == words_in(start, end)


@given(boundaries())
def test_no_end_with_whole_shots_is_passed_over_for_a_sliver(boundary):
    start, end, words, cuts = boundary
    free, analysis = pauses(start, end, words, []), view(cuts)
    begins = best_start(start, free.start, analysis, start + 1.0)
    ends = best_end(end, free.end, analysis, end - 1.0, end + 1.0)

    def may_be_whole(span: tuple[float, float], before: float, after: float) -> bool:
        """Whether some time in the span has no cut from `before` to `after` seconds around it."""
        times = np.arange(*span, 0.01)
        return any(not any(t - before < cut < t + after for cut in cuts) for t in times)

    if may_be_whole(free.start, 1.5 / FPS, 0.5 + 1.5 / FPS):
        assert not any(0.001 < cut - begins < 0.499 for cut in cuts)
    if may_be_whole(free.end, 0.5 + 1.5 / FPS, 1.5 / FPS):
        assert not any(0.001 < ends - cut < 0.499 for cut in cuts)


def test_pauses_stop_at_other_clips():
    assert pauses(10.0, 14.5, WORDS[1:3], [(5.0, 9.9), (14.6, 20.0)]) == Pauses(start=(9.9, 10.2), end=(14.4, 14.6))


def test_an_end_between_touching_words_does_not_move():
    tight = [Word(word="a", start=9.0, end=10.0), Word(word="b", start=10.0, end=12.0)]
    assert pauses(10.0, 12.0, tight, []).start == (10.0, 10.0)


def test_moving_a_clip_changes_its_outer_ends_only():
    clip = EdlClip(index=1, title="t", hook="h", segments=[Span(start=1, end=2), Span(start=5, end=6)])
    assert [(s.start, s.end) for s in with_ends(clip, 0.9, 6.2).segments] == [(0.9, 2.0), (5.0, 6.2)]


def scene(seed: int, frames: int) -> np.ndarray:
    """A picture of blocks with a moving part."""
    still = np.random.default_rng(seed).integers(40, 220, (9, 16)).repeat(10, axis=0).repeat(10, axis=1)
    shots = np.stack([still] * frames).astype(np.float32)
    for n, frame in enumerate(shots):
        frame[30:60, 20:60] = np.roll(frame[30:60, 20:60], n, axis=1)
    return shots


def flaws(*parts: np.ndarray) -> list[bool]:
    return flawed_frames(np.concatenate(parts).clip(0, 255).astype(np.uint8), FPS)


def test_dissolves_and_fades_are_flawed():
    a, b = scene(1, 50), scene(2, 50)
    rise = np.linspace(0, 1, 20)[:, None, None]
    dissolve = flaws(a[:40], a[:20] * (1 - rise) + b[:20] * rise, b[:40])
    assert all(dissolve[44:56])
    assert not any(dissolve[:30])
    assert not any(dissolve[-30:])
    fade = flaws(a[:20] * rise + 16 * (1 - rise), a[:40])
    assert all(fade[:15])
    assert not any(fade[-30:])


def test_black_and_flashes_are_flawed_but_cuts_are_not():
    a, b = scene(1, 50), scene(2, 50)
    assert not any(flaws(a, b))
    assert flaws(a, np.full((10, 90, 160), 16.0), b)[50:60] == [True] * 10
    flashed = a.copy()
    flashed[20:22] += 90
    assert flaws(flashed)[20:22] == [True, True]
