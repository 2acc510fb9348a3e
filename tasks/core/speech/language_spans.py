"""Which language is spoken when, from the recogniser's guesses for each stretch of speech."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from tasks.core.speech.asr import Stretch, plan_windows

SURE = 0.9
"""Lowest probability of a window in one language: 0.99 in real talks, 0.94 for synthetic voices. With three
seconds of another language among thirty it is at most 0.87 (Whisper base)."""
SELDOM = frozenset(("br", "cy", "fo", "haw", "jw", "la", "mi", "nn", "oc", "sa", "yi", "yo"))
"""Rare languages for which short or unclear speech in others is often mistaken."""
SELDOM_SHARE = 0.1
CHANGE = 2.0
"""Penalty for a change of language, as a log probability: three clear seconds outweigh two changes."""
FLOOR = 0.01
"""Lowest probability that counts, so that one odd guess has little weight."""
WHOLE_WEIGHT_SECONDS = 3.0
"""Shorter stretches count in proportion, since half a second may be taken for any language."""

Probabilities = Mapping[str, float]
"""Probability of each language."""


class LanguageWindow(NamedTuple):
    """A window of speech in one language."""

    window: Stretch
    language: str


def pieces(speech: Sequence[Stretch], shortest: float = 3.0, pause: float = 0.35) -> list[Stretch]:
    """Stretches of speech joined until they are long enough to identify a language, split at pauses if possible."""
    found: list[Stretch] = []
    for stretch in speech:
        last = found[-1] if found else None
        if last and last.duration < (shortest if stretch.start - last.end < pause else 0.6 * shortest):
            found[-1] = Stretch(last.start, stretch.end)
        else:
            found.append(stretch)
    if len(found) > 1 and found[-1].duration < 0.5 * shortest and found[-1].start - found[-2].end < pause:
        found[-2:] = [Stretch(found[-2].start, found[-1].end)]
    return found


def languages_of(stretches: Sequence[Stretch], guesses: Sequence[Probabilities], before: str | None) -> list[str]:
    """The most likely language of each stretch, in order, assuming that changes are rare (Viterbi).

    `before` is the language spoken before the first stretch, or None if unknown.
    """
    guesses = [_tempered(guess) for guess in guesses]
    tongues = sorted({max(guess, key=lambda code: guess[code]) for guess in guesses} | ({before} if before else set()))
    score = {code: 0.0 if before in (code, None) else -CHANGE for code in tongues}
    back: list[dict[str, str]] = []
    for stretch, guess in zip(stretches, guesses, strict=True):
        came = {code: max(tongues, key=lambda old, new=code: score[old] - CHANGE * (old != new)) for code in tongues}
        weight = min(stretch.duration / WHOLE_WEIGHT_SECONDS, 1.0)
        score = {
            code: score[came[code]]
            - CHANGE * (came[code] != code)
            + weight * math.log(max(guess.get(code, 0.0), FLOOR))
            for code in tongues
        }
        back.append(came)
    path = [max(tongues, key=lambda code: score[code])]
    for came in reversed(back[1:]):
        path.append(came[path[-1]])
    return path[::-1]


def _tempered(guess: Probabilities) -> Probabilities:
    if max(guess.values()) >= SURE:
        return guess
    return {code: share * (SELDOM_SHARE if code in SELDOM else 1.0) for code, share in guess.items()}


def windows_of(stretches: Sequence[Stretch], languages: Sequence[str]) -> list[LanguageWindow]:
    """Windows over the stretches, in order. A change of language ends a window."""
    pairs = zip(stretches, languages, strict=True)
    return [
        LanguageWindow(window, language)
        for language, run in groupby(pairs, key=lambda pair: pair[1])
        for window in plan_windows([stretch for stretch, _ in run])
    ]
