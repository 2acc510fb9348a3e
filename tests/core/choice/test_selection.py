import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.core.choice.audience import Audience
from tasks.core.choice.cuts import HOLD_SECONDS, LEAD_SECONDS, TAIL_SECONDS, TOLERANCE, candidate_windows, cut_points
from tasks.core.choice.delivery import Delivery
from tasks.core.choice.selection import SelectedWindows, Talk, Wanted, select_windows
from tasks.core.choice.weights import signal_names
from tasks.core.errors import TooShort
from tasks.core.media import Chapter, HeatmapPoint
from tasks.core.speech.sentences import join, sentences
from tasks.core.transcript import Segment, Sentence, Word

DULL = [
    "The municipal administration subsequently reorganized the departmental responsibilities.",
    "Corresponding documentation was distributed among the participating institutions.",
    "The evaluation procedure consists of several consecutive administrative phases.",
    "Additional requirements concerning infrastructure are specified in the supplementary regulations.",
    "Representatives of the organization examined the proposed modifications extensively.",
    "The implementation schedule was coordinated with the regional authorities throughout the period.",
    "Quarterly expenditures approximated the anticipated budgetary allocations.",
    "The committee considered alternative configurations of the existing facilities.",
]
FIRE = [
    "So what would you do if your kitchen was on fire?",
    "I ran out with the cat.",
    "My wife said, where are the children?",
    "Oh no, I said, I took the cat!",
    "She laughed so hard that she cried.",
    "You never know who you are until it burns.",
]
PIANO = [
    "Why did I quit the piano?",
    "I was nine, and I was bad.",
    "My teacher said, you play like you hate me.",
    "Well, I did!",
    "So I went home and I told my mom I was done.",
    "And you know what she said? Good, now play for fun.",
]


def spoken(lines: list[str], *, pause: float = 0.4, start: float = 1.0) -> list[Sentence]:
    segments, at = [], start
    for line in lines:
        words = []
        for token in line.split():
            length = 0.12 + 0.05 * len(token)
            words.append(Word(word=token, start=at, end=at + length))
            at += length
        segments.append(Segment(text=line, start=words[0].start, duration=at - words[0].start, words=words))
        at += pause
    return sentences(segments)


def dull_lines(number: int, seed: int = 0) -> list[str]:
    return [DULL[i] for i in np.random.default_rng(seed).integers(0, len(DULL), number)]


PLANTED = [*dull_lines(30, 1), *FIRE, *dull_lines(30, 2), *PIANO, *dull_lines(30, 3)]


def share_of(choice: SelectedWindows, talk: list[Sentence], planted: list[str]) -> float:
    """The largest share of the planted seconds inside one selected clip."""
    stretch = [s for s in talk if any(s.text in line or line in s.text for line in planted)]
    start, end = stretch[0].start, stretch[-1].end
    return max((min(c.end, end) - max(c.start, start)) / (end - start) for c in choice.clips)


def check_choice(choice: SelectedWindows, talk: list[Sentence], bounds: tuple[float, float]) -> None:
    windows = [*choice.clips, *choice.reserve]
    for window in windows:
        assert bounds[0] - TOLERANCE <= window.duration <= bounds[1] + TOLERANCE
        words = [w for s in talk for w in s.words]
        assert not any(w.start + 1e-9 < cut < w.end - 1e-9 for w in words for cut in (window.start, window.end))
        inside = [w for w in words if window.start - 1e-9 <= w.start and w.end <= window.end + 1e-9]
        assert inside
        assert set(window.signals) <= set(signal_names())
        assert sum(window.counted.values()) == pytest.approx(window.score, abs=0.01)
        if window.aligned == "sentence":
            lead, tail = talk[window.first].start - window.start, window.end - talk[window.last].end
            assert -1e-9 <= lead <= LEAD_SECONDS + 1e-9
            is_held = abs(window.duration - bounds[0]) <= TOLERANCE  # goes on into a pause to be long enough
            assert -1e-9 <= tail <= (HOLD_SECONDS if is_held else TAIL_SECONDS) + 1e-9
            assert window.text == join(s.text for s in talk[window.first : window.last + 1])
            assert window.fallback is None
        else:
            assert window.fallback
    by_time = sorted(windows, key=lambda w: w.start)
    assert all(a.end <= b.start + TOLERANCE for a, b in pairwise(by_time))


@pytest.mark.parametrize("bounds", [(16.0, 20.0), (12.0, 15.0), (24.0, 30.0)])
def test_planted_highlights_are_selected(bounds):
    talk = spoken(PLANTED)
    choice = select_windows(Talk(talk, "en"), Wanted(bounds, 2))
    check_choice(choice, talk, bounds)
    assert share_of(choice, talk, FIRE) > 0.7
    assert share_of(choice, talk, PIANO) > 0.7
    assert all(clip.aligned == "sentence" for clip in choice.clips)


def test_without_word_lists_highlights_are_still_found_with_a_note():
    talk = spoken(PLANTED)
    choice = select_windows(Talk(talk, "xx"), Wanted((16.0, 20.0), 2))
    assert share_of(choice, talk, FIRE) > 0.5
    assert share_of(choice, talk, PIANO) > 0.5
    assert any("word lists" in note for note in choice.notes)
    assert "first_person" not in choice.clips[0].signals


def test_indonesian_has_word_lists():
    talk = spoken(["Pertanggungjawaban keuangan disampaikan berdasarkan peraturan."] * 12)
    assert not any("word lists" in note for note in select_windows(Talk(talk, "id"), Wanted((8, 10), 1)).notes)


def test_a_minor_language_without_word_lists_is_noted():
    talk = [s.model_copy(update={"language": "id"}) for s in spoken(dull_lines(10))]
    talk[:3] = [s.model_copy(update={"language": "xx"}) for s in talk[:3]]
    (note,) = [note for note in select_windows(Talk(talk, "id"), Wanted((8, 10), 1)).notes if "word lists" in note]
    assert note.startswith("no word lists for language 'xx':")


def test_as_many_clips_as_fit_are_selected_even_if_the_best_one_is_in_the_way():
    talk = spoken([*dull_lines(6, 4), *FIRE, *dull_lines(6, 5)])
    speech = talk[-1].end - talk[0].start
    bounds = (0.8 * speech / 3.4, speech / 3.4)
    assert len(select_windows(Talk(talk, "en"), Wanted(bounds, 3)).clips) == 3


def test_fewer_clips_are_selected_if_no_more_fit():
    talk = spoken(dull_lines(8))
    speech = talk[-1].end - talk[0].start
    choice = select_windows(Talk(talk, "en"), Wanted((0.4 * speech, 0.5 * speech), 5))
    assert len(choice.clips) <= 2
    assert any("of 5 clips" in note for note in choice.notes)


@pytest.mark.parametrize("lines", [[], ["Too little."]])
def test_less_speech_than_a_clip_is_too_short(lines):
    with pytest.raises(TooShort, match=r"\d+ seconds? of speech"):
        select_windows(Talk(spoken(lines), "en"), Wanted((16, 20), 1))


def test_speech_scattered_in_short_pieces_is_too_short():
    talk = spoken(["Hello there."], start=1) + spoken(["Goodbye then."], start=500)
    with pytest.raises(TooShort, match="No part of the speech"):
        select_windows(Talk(talk, "en"), Wanted((16, 20), 1))


def test_a_sentence_longer_than_the_clip_is_cut_at_pauses():
    words, at = [], 1.0
    for i in range(60):
        words.append(Word(word=f"word{i}", start=at, end=at + 0.3))
        at += 0.3 + (0.35 if i % 4 == 3 else 0.0)
    talk = [Sentence(text=" ".join(w.word for w in words), start=1.0, end=words[-1].end, words=words)]
    choice = select_windows(Talk(talk, "en"), Wanted((5, 6.5), 2))
    check_choice(choice, talk, (5, 6.5))
    assert {clip.aligned for clip in choice.clips} == {"pause"}
    assert any("pause" in note for note in choice.notes)


def test_without_pauses_a_sentence_is_cut_between_words():
    words = [Word(word=f"word{i}", start=1 + 0.3 * i, end=1.3 + 0.3 * i) for i in range(60)]
    talk = [Sentence(text=" ".join(w.word for w in words), start=1.0, end=words[-1].end, words=words)]
    choice = select_windows(Talk(talk, "en"), Wanted((4, 5), 2))
    check_choice(choice, talk, (4, 5))
    assert {clip.aligned for clip in choice.clips} == {"word"}


def test_whole_sentences_too_short_by_little_go_on_into_the_pause_rather_than_be_cut():
    talk = spoken([*DULL[:2], "It burned."], pause=1.5)
    whole = talk[1].end - talk[0].start
    bounds = (whole + 1.0, whole + 1.2)
    (clip,) = select_windows(Talk(talk, "en"), Wanted(bounds, 1)).clips
    assert clip.aligned == "sentence"
    assert clip.text == " ".join(sentence.text for sentence in talk[:2])
    assert clip.duration == pytest.approx(bounds[0])
    assert talk[1].end < clip.end <= talk[2].start


def test_a_window_longer_by_a_rounding_error_is_kept():
    word = Word(word="Sum.", start=0.3, end=45.3)
    after = Word(word="Next.", start=word.end, end=word.end + 3)
    talk = [Sentence(text=w.word, start=w.start, end=w.end, words=[w]) for w in (word, after)]
    starts, ends = cut_points(talk, None)
    length = float(ends[0] - starts[0])
    for longest in (length - 1e-9, length + 1e-9):
        assert 0 in candidate_windows(talk, (36, longest)).first
    assert 0 not in candidate_windows(talk, (36, length - 1e-3)).first


def test_a_repetitive_talk_gives_clips_of_different_times():
    talk = spoken(FIRE * 8)
    choice = select_windows(Talk(talk, "en"), Wanted((12, 15), 5))
    check_choice(choice, talk, (12, 15))
    assert len({round(clip.start, 1) for clip in choice.clips}) == len(choice.clips) == 5


def test_cuts_are_placed_at_the_quietest_point_of_a_gap():
    talk = spoken(["One two three four.", "Five six seven."], pause=0.8)
    level = np.full(1000, -20.0, np.float32)
    quiet_end, quiet_start = talk[0].end + 0.36, talk[1].start - 0.14
    for quiet in (quiet_end, quiet_start):
        level[int(quiet * 50) - 1 : int(quiet * 50) + 2] = -70.0
    none = np.zeros(0, np.float32)
    starts, ends = cut_points(talk, Delivery(loudness=level, pitch=none, noise=none))
    assert ends[0] == pytest.approx(quiet_end, abs=0.04)
    assert starts[1] == pytest.approx(quiet_start, abs=0.04)


def test_a_clip_never_ends_after_the_sound():
    talk = spoken(["One two three four."])
    level = np.full(int(talk[-1].end * 50) + 5, -60.0, np.float32)
    none = np.zeros(0, np.float32)
    _, ends = cut_points(talk, Delivery(loudness=level, pitch=none, noise=none))
    assert talk[-1].end <= ends[-1] <= len(level) / 50 + 1e-9


def test_replays_and_chapters_attract_the_selection():
    talk = spoken(dull_lines(60, 9))
    top = talk[30].start
    heat = [HeatmapPoint(start_time=t, end_time=t + 5, value=float(abs(t - top) < 12)) for t in range(0, 400, 5)]
    choice = select_windows(Talk(talk, "en", None, Audience(heatmap=heat)), Wanted((16, 20), 1))
    assert abs(choice.clips[0].start - top) < 25
    assert choice.clips[0].signals["replays"] > 1
    marks = [Chapter(start_time=s.start, end_time=s.end) for s in talk[::2]]
    assert (
        "chapter"
        in select_windows(Talk(talk, "en", None, Audience(chapters=marks)), Wanted((16, 20), 1)).clips[0].signals
    )


def test_a_raised_voice_and_applause_attract_the_selection():
    talk = spoken(dull_lines(40, 8), pause=1.2)
    seconds = talk[-1].end + 2
    loudness = np.full(int(seconds * 50), -60.0, np.float32)
    noise = np.full(int(seconds * 10), 0.05, np.float32)
    for sentence in talk:
        loudness[int(sentence.start * 50) : int(sentence.end * 50)] = -25.0
    for sentence in talk[20:23]:
        loudness[int(sentence.start * 50) : int((sentence.end + 1.2) * 50)] = -18.0
        noise[int(sentence.end * 10) : int((sentence.end + 1.2) * 10)] = 0.5
    delivery = Delivery(loudness=loudness, pitch=np.full(len(noise), np.nan, np.float32), noise=noise)
    (clip,) = select_windows(Talk(talk, "en", delivery), Wanted((16, 20), 1)).clips
    assert clip.signals["reaction"] > 1
    assert min(clip.end, talk[22].end) - max(clip.start, talk[20].start) > 8


def test_selecting_from_three_hours_takes_seconds():
    talk = spoken(dull_lines(1800, 6))
    assert talk[-1].end > 2.5 * 3600
    began = time.process_time()
    assert len(select_windows(Talk(talk, "en"), Wanted((36, 45), 5)).clips) == 5
    assert time.process_time() - began < 8


TIMES = st.floats(0, 120)
HOSTILE = st.lists(
    st.builds(
        Segment,
        text=st.just(""),
        start=TIMES,
        duration=TIMES,
        words=st.lists(st.builds(Word, word=st.text(min_size=1, max_size=6), start=TIMES, end=TIMES), max_size=30),
    ),
    max_size=8,
)
EVEN = st.lists(st.sampled_from([*DULL, *FIRE, "Yes.", "No comma no pause"]), min_size=1, max_size=40).map(
    lambda lines: [Segment(text=s.text, start=s.start, duration=s.end - s.start, words=s.words) for s in spoken(lines)]
)


LAST_WORD_OF_NO_LENGTH = [
    Segment(text="", start=0, duration=0, words=[Word(word="0", start=a, end=b)])
    for a, b in ((39.5, 39.5), (43, 54.25), (54.25, 54.25), (55, 55))
]


@settings(max_examples=120)
@example(LAST_WORD_OF_NO_LENGTH, 15.0, 0.875, 1, "en")
@given(HOSTILE | EVEN, st.floats(3, 40), st.floats(0.5, 1.0), st.integers(1, 5), st.sampled_from(["en", "id", "xx"]))
def test_any_selection_has_whole_words_and_no_overlap(segments, longest, share, count, language):
    talk, bounds = sentences(segments), (share * longest, longest)
    try:
        choice = select_windows(Talk(talk, language), Wanted(bounds, count))
    except TooShort:
        return
    assert 1 <= len(choice.clips) <= count
    check_choice(choice, talk, bounds)


@settings(max_examples=30)
@given(EVEN, st.integers(0, 2**32 - 1))
def test_any_selection_with_sound_has_whole_words_and_no_overlap(segments, seed):
    talk = sentences(segments)
    rng = np.random.default_rng(seed)
    size = int(rng.uniform(0, 1.2) * talk[-1].end * 50)
    sound = Delivery(
        loudness=rng.uniform(-100, 0, size).astype(np.float32),
        pitch=rng.choice([np.nan, 100.0, 200.0], size // 5).astype(np.float32),
        noise=rng.uniform(0, 1, size // 5).astype(np.float32),
    )
    try:
        check_choice(select_windows(Talk(talk, "en", sound), Wanted((6, 10), 3)), talk, (6, 10))
    except TooShort:
        return
