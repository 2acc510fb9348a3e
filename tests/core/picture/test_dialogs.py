"""Random dialogs of two people: mouths that nod and laugh beside those that talk, and voices that are mostly known."""

from typing import NamedTuple

import numpy as np
import pytest

from tasks.core.picture.camera import FaceBox, RangeAnalysis, Shot
from tasks.core.picture.reframe import frame_range
from tasks.core.picture.said import NOTHING_SAID, Said, Turn

END = 45.0
PLACES = {1: 480.0, 2: 1440.0}
DIALOGS = 12


class Shown(NamedTuple):
    """Share of the speech during which the speaker is shown, of the time that is blurred, and of cuts at turns."""

    seen: float
    blurred: float
    at_turns: float


def dialog(random: np.random.Generator, mean: float) -> list[Turn]:
    """Turns of `mean` seconds on average."""
    found, start, speaker = list[Turn](), 0.0, 1
    while start < END:
        length = max(0.6, random.exponential(mean))
        found.append(Turn(speaker, start, min(start + length - 0.15, END)))
        start, speaker = start + length, 3 - speaker
    return found


def faces(random: np.random.Generator, turns: list[Turn]) -> list[FaceBox]:
    times = np.arange(0, END, 0.2).round(3)
    found: list[FaceBox] = []
    for speaker, x in PLACES.items():
        nods = np.convolve(random.random(len(times)) < 0.04, np.ones(8), "same") > 0
        for t, nod in zip(times, nods, strict=True):
            talks = any(turn.speaker == speaker and turn.start <= t < turn.end for turn in turns)
            mouth = random.normal(2.6, 1.1) if talks else random.normal(0.7, 0.4) + 1.6 * nod
            at = x + random.normal(0, 4)
            found.append(FaceBox(t=float(t), x=at, y=420, width=210, height=270, score=0.9, mouth=max(mouth, 0.0)))
    return sorted(found, key=lambda face: face.t)


def heard(random: np.random.Generator, turns: list[Turn]) -> list[Turn]:
    """The turns as voices tell them: 0.08 s off, and half of the very short ones taken for the other's."""
    found: list[Turn] = []
    for turn in turns:
        is_wrong = turn.end - turn.start < 0.8 and random.random() < 0.5
        speaker = 3 - turn.speaker if is_wrong else turn.speaker
        start, end = turn.start + random.normal(0, 0.08), turn.end + random.normal(0, 0.08)
        if found and found[-1].speaker == speaker:
            found[-1] = found[-1]._replace(end=end)
        else:
            found.append(Turn(speaker, start, end))
    return found


def watched(shots: list[Shot], turns: list[Turn]) -> Shown:
    seen, blurred = list[bool](), list[bool]()
    for t in np.arange(0, END, 0.05):
        shot = next(shot for shot in shots if shot.start <= t < shot.end)
        blurred.append(shot.layout == "fit")
        for turn in turns:
            if turn.start <= t < turn.end:
                left = np.interp(t, [key.t for key in shot.keys], [key.x for key in shot.keys]) if shot.keys else 0.0
                is_inside = left <= PLACES[turn.speaker] <= left + (shot.crop_width or 1920)
                seen.append(is_inside or shot.layout in ("split", "fit"))
    cuts = [min(abs(shot.start - turn.start) for turn in turns) <= 0.4 for shot in shots[1:]]
    return Shown(float(np.mean(seen)), float(np.mean(blurred)), float(np.mean(cuts or [True])))


def shown(mean: float, *, by_voice: bool) -> Shown:
    """The mean over dialogs with turns of `mean` seconds."""
    each: list[Shown] = []
    for seed in range(DIALOGS):
        random = np.random.default_rng(seed)
        turns = dialog(random, mean)
        found = faces(random, turns)
        samples = sorted({face.t for face in found})
        view = RangeAnalysis(start=0, end=END, fps=30, faces=found, samples=samples)
        said = Said((), heard(random, turns)) if by_voice else NOTHING_SAID
        each.append(watched(frame_range(view, (1920, 1080), (1080, 1920), said=said), turns))
    return Shown(*np.mean(each, axis=0))


@pytest.mark.parametrize("mean", [1.5, 3.0, 6.0, 12.0])
def test_with_voices_whoever_speaks_is_shown_and_cuts_are_at_turns(mean: float):
    by_voice, by_mouth = shown(mean, by_voice=True), shown(mean, by_voice=False)
    assert by_voice.seen >= 0.97
    assert by_voice.blurred <= 0.01
    assert by_voice.at_turns >= 0.97
    assert by_voice.blurred <= by_mouth.blurred
    assert by_voice.at_turns >= by_mouth.at_turns
