#!/usr/bin/env python3
"""Measures what each signal of a text is worth alone: `python docs/measure_signals.py talks.jsonl.gz [LIMIT]`.

The file holds a recording a line, as JSON: {"sentences": [[text, start, end, mark, ...], ...]}, times in seconds, and
mark how much the audience laughed or applauded after the sentence (0 for not at all). Such data is no part of KangKlip.

Printed is a row a signal: the marks inside the three windows of 45 s that the signal alone would choose, relative to
those inside random windows (1 is chance). A signal whose weight is negative chooses where it is lowest. Times of words
are not in such data; they are spread evenly over each sentence, so pauses inside sentences do not count.
"""

import gzip
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from tasks.core.choice.selection import WEIGHTS
from tasks.core.choice.signals import Line, content_words, pause_signals, text_signals
from tasks.core.choice.topics import Topics
from tasks.core.choice.windows import Floats, Windows, z_scores
from tasks.core.speech.sentences import ordered_words
from tasks.core.speech.wordlists import word_lists
from tasks.core.transcript import Segment, Sentence

COUNT, SECONDS, TOLERANCE = 3, 45.0, 4.0
DRAWS = 60
"""Choices of random windows for each recording."""


def lifts(recordings: Iterable[list[list]]) -> dict[str, float]:
    """What each signal finds relative to chance, over all recordings that are long enough."""
    found: dict[str, float] = defaultdict(float)
    chance = 0.0
    draw = np.random.default_rng(1)
    for rows in recordings:
        windows = _windows(rows)
        if len(windows) < 20:
            continue
        total = np.concatenate([[0.0], np.cumsum([float(row[3]) for row in rows])])
        marks = total[windows.last + 1] - total[windows.first]
        chance += np.mean([marks[_apart(windows, draw.permutation(len(windows)))].sum() for _ in range(DRAWS)])
        for name, values in _signals(rows, windows).items():
            order = np.lexsort((draw.random(len(windows)), -values * np.sign(WEIGHTS[name].value)))  # ties by lot
            found[name] += marks[_apart(windows, order)].sum()
    return {name: marked / chance for name, marked in found.items()} if chance else {}


def _windows(rows: list[list]) -> Windows:
    """From each sentence on, the run of whole sentences that is nearest to 45 s."""
    start, end = (np.array([row[k] for row in rows], np.float64) for k in (1, 2))
    last = np.array([i + int(np.abs(end[i:] - start[i] - SECONDS).argmin()) for i in range(len(rows))])
    first = np.flatnonzero(np.abs(end[last] - start - SECONDS) <= TOLERANCE)
    return Windows(first, last[first], start[first], end[last[first]])


def _apart(windows: Windows, order: np.ndarray) -> list[int]:
    """The first windows in this order that share no sentence."""
    taken: list[int] = []
    for i in order:
        if all(windows.last[i] < windows.first[t] or windows.first[i] > windows.last[t] for t in taken):
            taken.append(int(i))
        if len(taken) == COUNT:
            break
    return taken


def _signals(rows: list[list], windows: Windows) -> dict[str, Floats]:
    lists = word_lists("en")
    talk = [
        Sentence(
            text=text,
            start=start,
            end=end,
            words=ordered_words([Segment(text=text, start=start, duration=end - start)]),
        )
        for text, start, end, *_ in rows
    ]
    lines = [Line.of(sentence, lists) for sentence in talk]
    topics = Topics.of(content_words(lines))
    signals = text_signals(lines, topics, windows) | pause_signals(talk, windows)
    return {name: z_scores(values) for name, values in signals.items()}


def _recordings(path: Path, limit: int | None) -> Iterator[list[list]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if number == limit:
                return
            yield json.loads(line)["sentences"]


if __name__ == "__main__":
    measured = lifts(_recordings(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None))
    for name, lift in sorted(measured.items(), key=lambda item: -item[1]):
        print(f"{name:16} {lift:.2f}   weight {WEIGHTS[name].value:g}")  # noqa: T201
