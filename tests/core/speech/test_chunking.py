import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.speech.chunking import SLACK, chunks
from tasks.core.speech.sentences import sentences
from tasks.core.transcript import Segment, Sentence, Word
from tasks.stages.chunk import make_chunks


def talk(lengths: list[float], pauses: list[float]) -> list[Sentence]:
    found, at = [], 0.0
    for i, (length, pause) in enumerate(zip(lengths, pauses, strict=True)):
        word = Word(word=f"s{i}.", start=at, end=at + length)
        found.append(Sentence(text=word.word, start=word.start, end=word.end, words=[word]))
        at += length + pause
    return found


def test_a_window_ends_at_the_longest_pause_near_its_length():
    pauses = [0.1] * 100
    pauses[62] = 3.0
    made = chunks(talk([4.0] * 100, pauses))
    assert made[0].text.endswith("s62.")
    assert made[0].end == pytest.approx(62 * 4.1 + 4.0)


def test_every_sentence_is_in_one_window_in_order():
    spoken = talk([5.0] * 700, [0.3] * 700)
    made = chunks(spoken)
    assert " ".join(c.text for c in made) == " ".join(s.text for s in spoken)
    assert all(240 <= c.end - c.start <= 360 for c in made[:-1])


@settings(max_examples=100)
@given(st.lists(st.tuples(st.floats(0.01, 500), st.floats(0, 30)), max_size=60), st.floats(1, 300))
def test_windows_end_with_sentences_and_only_a_long_sentence_exceeds_the_limit(parts, seconds):
    spoken = talk([p[0] for p in parts], [p[1] for p in parts])
    made = chunks(spoken, seconds)
    ends, starts = {s.end for s in spoken}, {s.start for s in spoken}
    assert all(c.end in ends and c.start in starts for c in made)
    assert all(a.end <= b.start for a, b in itertools.pairwise(made))
    single = {(s.start, s.end) for s in spoken}
    assert all(c.end - c.start <= seconds * (1 + SLACK) + 1e-6 or (c.start, c.end) in single for c in made)


def test_the_stage_makes_chunks_of_a_transcript():
    segments = [
        Segment(text="First one. Second one.", start=2, duration=4),
        Segment(text="Third.", start=7, duration=1),
    ]
    assert [c.model_dump() for c in make_chunks(segments)] == [
        {"text": "First one. Second one. Third.", "start": 2.0, "end": 8.0}
    ]
    assert make_chunks([]) == []
    assert len(sentences(segments)) == 3
