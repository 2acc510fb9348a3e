#!/usr/bin/env python3
"""Learns what signals weigh: `python docs/learn_weights.py TALKS.jsonl.gz CONVERSATIONS.jsonl.gz`.

Writes `tasks/core/choice/weights.json`, and prints its cross-validation. Each file holds a recording a line, as JSON:
{"id": "...", "sentences": [[text, start, end, mark, ...], ...]}, times in seconds, and mark how much people picked the
sentence: how long the audience laughed or applauded after it, or 1 if the editors showed it. Such data is no part of
KangKlip. `python docs/learn_weights.py --split FILE.jsonl.gz FOLDER` writes its two halves.

Recordings whose id has a SHA-256 that begins with an odd byte are held back: nothing is learned from them, and
`docs/choose_windows.py` measures on them. On the others, a ridge regression from the signals of all windows of 36 to
45 s to the logarithm of the marks inside gives the weights of each kind of recording. All recordings count alike. Each
set of weights is scaled so that the learned part of the score has a deviation of 1 within a recording. Lessons and
streams, of which there is no data, get the mean of the others, without position and pauses.
"""

import gzip
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from choose_windows import sentences_of

from tasks.core.choice.cuts import candidate_windows
from tasks.core.choice.kinds import KINDS, traits
from tasks.core.choice.selection import Talk, measured_signals
from tasks.core.choice.topics import Topics
from tasks.core.choice.weights import MOST_PLACE, PLACE
from tasks.core.choice.windows import Floats, Windows
from tasks.core.speech.terms import content_words

LEARNED = (
    "pauses",
    "short_sentences",
    "word_length",
    "variety",
    "rare_words",
    "numbers",
    "first_person",
    "second_person",
    "dialogue",
    "discourse",
    "positive",
    "claim",
    "question",
    "exclamations",
    "centrality",
    "length",
    "early",
    "closing",
)
UNKNOWN = (*PLACE, "pauses")
"""Signals whose meaning depends on the kind most; without recordings of a kind, they are left out."""
NO_POSITION = ("talk",)
"""Kinds in which position is not learned: what the audience liked is spread evenly over the recording."""
PENALTY = 0.5
"""Of the ridge regression, as a share of the number of observations."""
FOLDS, COUNT, SECONDS = 5, 3, 45.0
OUT = Path(__file__).parent.parent / "tasks" / "core" / "choice" / "weights.json"

JUDGED_TRAITS = {
    # Nobody answers, nobody laughs; the listener is addressed.
    "lesson": {"questions": 0.05, "brief": 0.08, "breaks": 1.0, "minutes": 3.4, "unscripted": 0.025,
               "second_person": 0.045, "discourse": 0.025},
    # Hours of remarks, with long silences between them.
    "stream": {"questions": 0.15, "brief": 0.30, "breaks": 2.2, "minutes": 5.2, "unscripted": 0.045,
               "second_person": 0.035, "discourse": 0.050},
}  # fmt: skip
SPREAD_OF_MINUTES = 1.0
"""Judged, in logarithms: that the talks learned from have 18 minutes and the conversations 80 is chance."""


@dataclass(frozen=True)
class Recording:
    """A recording's windows: their signals (windows, signals), and the marks inside each."""

    windows: Windows
    signals: Floats
    marks: Floats
    traits: dict[str, float]

    @property
    def target(self) -> Floats:
        values = np.log1p(self.marks)
        return values - values.mean()


def is_held_back(recording: str) -> bool:
    return bool(hashlib.sha256(recording.encode()).digest()[0] % 2)


def read(path: Path) -> Iterator[tuple[str, list[list]]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            recording = json.loads(line)
            yield recording["id"], recording["sentences"]


def measured(rows: list[list], names: Sequence[str] = LEARNED) -> Recording:
    talk = Talk(sentences_of(rows), "en")
    lines = talk.lines(talk.sentences)
    windows = candidate_windows(talk.sentences, (0.8 * SECONDS, SECONDS))
    found = measured_signals(windows, lines, Topics.of(content_words(lines)), talk) if len(windows) else {}
    total = np.concatenate([[0.0], np.cumsum([float(row[3]) for row in rows])])
    signals = np.column_stack([found[name] for name in names]) if found else np.zeros((0, len(names)))
    return Recording(windows, signals, total[windows.last + 1] - total[windows.first], traits(lines))


def fitted(recordings: Sequence[Recording], allowed: Sequence[bool]) -> Floats:
    """Weights (signals,) by ridge regression; 0 for signals that are not allowed."""
    size = int(np.count_nonzero(allowed))
    normal, moment = np.zeros((size, size)), np.zeros(size)
    for one in recordings:
        signals = one.signals[:, allowed]
        normal += signals.T @ signals / len(signals)
        moment += signals.T @ one.target / len(signals)
    weights = np.zeros(len(allowed))
    weights[np.asarray(allowed)] = np.linalg.solve(normal + PENALTY * len(recordings) * np.eye(size), moment)
    return _bounded(weights, recordings)


def _bounded(weights: Floats, recordings: Sequence[Recording]) -> Floats:
    """The weights scaled; position deviates at most `MOST_PLACE` times as much as all else together."""
    is_place = np.array([name in PLACE for name in LEARNED])
    place, rest = (np.mean([(r.signals[:, k] @ weights[k]).std() for r in recordings]) for k in (is_place, ~is_place))
    weights = np.where(is_place, weights * min(1.0, MOST_PLACE * rest / max(place, 1e-9)), weights)
    return _scaled(weights, recordings)


def _scaled(weights: Floats, recordings: Sequence[Recording]) -> Floats:
    """The weights, so that the learned part of the score has a deviation of 1 within a recording."""
    return weights / np.mean([(one.signals @ weights).std() for one in recordings])


def lift(recordings: Sequence[Recording], weigh: Callable[[Recording], Floats]) -> float:
    """Marks in the best windows that do not overlap, relative to as many seconds anywhere."""
    found = chance = 0.0
    for one in recordings:
        windows, seconds = one.windows, np.mean(one.windows.end - one.windows.start)
        found += one.marks[_best(windows, one.signals @ weigh(one))].sum() / COUNT
        chance += one.marks.mean() * SECONDS / seconds
    return found / chance


def _best(windows: Windows, score: Floats) -> list[int]:
    taken: list[int] = []
    for i in np.argsort(-score, kind="stable"):
        if all(windows.last[i] < windows.first[t] or windows.first[i] > windows.last[t] for t in taken):
            taken.append(int(i))
        if len(taken) == COUNT:
            break
    return taken


def cross_validated(recordings: Sequence[Recording], allowed: Sequence[bool]) -> float:
    """Lift on recordings that were not learned from, over all folds."""
    fold = np.random.default_rng(0).permutation(len(recordings)) % FOLDS
    weights = [fitted([r for r, k in zip(recordings, fold, strict=True) if k != out], allowed) for out in range(FOLDS)]
    of = {id(one): weights[k] for one, k in zip(recordings, fold, strict=True)}
    return lift(recordings, lambda one: of[id(one)])


def learn(sets: dict[str, list[Recording]]) -> dict:
    """The content of `weights.json`, from the recordings of each kind."""
    weights, notes = {}, {}
    for kind, data in sets.items():
        allowed = [kind not in NO_POSITION or name not in PLACE for name in LEARNED]
        weights[kind] = fitted(data, allowed)
        measured_lift = cross_validated(data, allowed)
        notes[kind] = f"{len(data)} recordings; lift {measured_lift:.2f} in {FOLDS}-fold cross-validation"
    unknown = np.array([name in UNKNOWN for name in LEARNED])
    everything = [one for data in sets.values() for one in data]
    mean = _scaled(np.where(unknown, 0.0, np.mean(list(weights.values()), axis=0)), everything)
    for kind in KINDS:
        if kind not in sets:
            weights[kind], notes[kind] = mean, "no recordings: the mean of the others, without position and pauses"
    return {
        "about": {"script": "docs/learn_weights.py", **notes},
        "weights": {
            name: {kind: round(float(weights[kind][i]), 3) for kind in KINDS} for i, name in enumerate(LEARNED)
        },
        "traits": {name: _trait(name, sets) for name in everything[0].traits},
    }


def _trait(name: str, sets: dict[str, list[Recording]]) -> dict:
    values = {kind: np.array([one.traits[name] for one in data]) for kind, data in sets.items()}
    usual = {kind: round(float(found.mean()), 3) for kind, found in values.items()}
    usual |= {kind: known[name] for kind, known in JUDGED_TRAITS.items()}
    spread = SPREAD_OF_MINUTES if name == "minutes" else float(np.sqrt(np.mean([v.var() for v in values.values()])))
    return {"usual": {kind: usual[kind] for kind in KINDS}, "spread": max(round(spread, 3), 0.001)}


def split(path: Path, folder: Path) -> None:
    """Write `learn-` and `held-` files with the two halves of a file."""
    with (
        gzip.open(path, "rt", encoding="utf-8") as lines,
        gzip.open(folder / f"learn-{path.name}", "wt", encoding="utf-8") as learned,
        gzip.open(folder / f"held-{path.name}", "wt", encoding="utf-8") as held,
    ):
        for line in lines:
            (held if is_held_back(json.loads(line)["id"]) else learned).write(line)


def main(arguments: list[str]) -> None:
    if arguments[0] == "--split":
        split(Path(arguments[1]), Path(arguments[2]))
        return
    files = {"talk": Path(arguments[0]), "conversation": Path(arguments[1])}
    sets = {
        kind: [one for name, rows in read(path) if not is_held_back(name) and len((one := measured(rows)).marks) >= 20]
        for kind, path in files.items()
    }
    content = learn(sets)
    OUT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(content["about"], indent=1))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
