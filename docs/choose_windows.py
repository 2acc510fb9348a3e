#!/usr/bin/env python3
"""Chooses windows of a rehearsed recording as KangKlip would, to be scored against what people picked.

`pick` is called by a scorer with sentences as (text, start, end, speaker), the number of windows and their length.
The times of words are not in such data: each word takes its letters at the speaker's quick pace, and what remains of
a sentence is a pause after it. With TIMING=sentences in the environment, words are spread evenly over each sentence;
with TIMING=none, signals of time are left out too, so that the text alone decides.
"""

import os
from collections.abc import Sequence

import numpy as np

from tasks.core.choice import selection
from tasks.core.choice.selection import Talk, Wanted, select_windows
from tasks.core.transcript import Sentence, Word

QUICK = 20
"""Percentile of the sentences' pace at which words are spoken."""
OVERRUN = 5.0
"""Seconds by which the silence after a window's last sentence may make it longer than was asked for."""


def sentences_of(rows: Sequence[Sequence], *, even: bool = False) -> list[Sentence]:
    """Sentences with word times from (text, start, end, ...)."""
    letters = np.array([max(len(row[0].replace(" ", "")) + len(row[0].split()), 1) for row in rows], np.float64)
    seconds = np.array([row[2] - row[1] for row in rows], np.float64)
    pace = np.percentile(seconds / letters, QUICK)
    rates = seconds / letters if even else np.minimum(seconds / letters, pace)
    return [_sentence(row, float(rate)) for row, rate in zip(rows, rates, strict=True)]


def _sentence(row: Sequence, rate: float) -> Sentence:
    text, start = row[0], row[1]
    words: list[Word] = []
    for token in text.split() or ["-"]:
        begin = words[-1].end if words else start
        words.append(Word(word=token, start=begin, end=begin + rate * (len(token) + 1)))
    return Sentence(text=text, start=start, end=words[-1].end, words=words)


def pick(sentences: list[tuple[str, float, float, str]], count: int, seconds: float) -> list[tuple[float, float]]:
    timing = os.environ.get("TIMING", "words")
    talk = sentences_of(sentences, even=timing != "words")
    if timing == "none":
        selection.pause_signals = lambda *_: {}
    found = select_windows(Talk(talk, "en"), Wanted((0.8 * seconds, seconds), count))
    rows = [_rows(sentences, clip.first, clip.last, seconds) for clip in found.clips]
    return [(start, end) for start, end in rows if end - start <= seconds + OVERRUN]  # one sentence may be too long


def _rows(sentences: list[tuple[str, float, float, str]], first: int, last: int, seconds: float) -> tuple[float, float]:
    """The window as the scorer has it, which counts the silence after the last sentence."""
    start, end = sentences[first][1], sentences[last][2]
    while end - start > seconds + OVERRUN and last > first:
        last -= 1
        end = sentences[last][2]
    return start, end
