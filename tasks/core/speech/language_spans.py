"""Decide which language is spoken when, from the recogniser's guess for each stretch of speech."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from tasks.core.speech.asr import Stretch, plan_windows

CLEAR = 0.99
"""Probability above which a window is all in one language. Real talks have 0.96 to 1, windows in two languages
up to 0.975: half English and half Italian can pass for Italian with 0.91 (Whisper base)."""
CONFIDENT = 0.9
"""Probability above which a piece of a window is in one language: real talks have 0.9 to 1."""
RARE_LANGUAGES = frozenset(("br", "cy", "fo", "haw", "jw", "la", "mi", "nn", "oc", "sa", "yi", "yo"))
"""Whisper often mistakes short or unclear speech for one of these."""
RARE_WEIGHT = 0.1
CHANGE_COST = 2.0
"""Cost of a change of language, as a log probability: three clear seconds outweigh two changes."""
MIN_PROBABILITY = 0.01
"""Lower probabilities count as this, to limit the weight of a single odd guess."""
FULL_WEIGHT_SECONDS = 3.0
"""Shorter stretches count in proportion, because half a second can pass for any language."""

Probabilities = Mapping[str, float]
"""Probability of each language."""


class LanguageWindow(NamedTuple):
    """A window of speech in one language."""

    window: Stretch
    language: str


def join_short_stretches(speech: Sequence[Stretch], shortest: float = 3.0, pause: float = 0.35) -> list[Stretch]:
    """Join stretches of speech until each is long enough to identify its language, splitting at pauses if possible."""
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


def most_likely_languages(
    stretches: Sequence[Stretch], guesses: Sequence[Probabilities], before: str | None
) -> list[str]:
    """The most likely language of each stretch, assuming that changes are rare (Viterbi).

    `before` is the language spoken before the first stretch, or None if unknown.
    """
    guesses = [_discount_rare(guess) for guess in guesses]
    likeliest = {max(guess, key=lambda code: guess[code]) for guess in guesses}
    candidates = sorted(likeliest | ({before} if before else set()))
    score = {code: 0.0 if before in (code, None) else -CHANGE_COST for code in candidates}
    back: list[dict[str, str]] = []
    for stretch, guess in zip(stretches, guesses, strict=True):
        previous = {
            code: max(candidates, key=lambda old, new=code: score[old] - CHANGE_COST * (old != new))
            for code in candidates
        }
        weight = min(stretch.duration / FULL_WEIGHT_SECONDS, 1.0)
        score = {
            code: score[previous[code]]
            - CHANGE_COST * (previous[code] != code)
            + weight * math.log(max(guess.get(code, 0.0), MIN_PROBABILITY))
            for code in candidates
        }
        back.append(previous)
    path = [max(candidates, key=lambda code: score[code])]
    for previous in reversed(back[1:]):
        path.append(previous[path[-1]])
    return path[::-1]


def _discount_rare(guess: Probabilities) -> Probabilities:
    if max(guess.values()) >= CONFIDENT:
        return guess
    return {code: share * (RARE_WEIGHT if code in RARE_LANGUAGES else 1.0) for code, share in guess.items()}


def language_windows(stretches: Sequence[Stretch], languages: Sequence[str]) -> list[LanguageWindow]:
    """Windows that cover the stretches, each in one language."""
    pairs = zip(stretches, languages, strict=True)
    return [
        LanguageWindow(window, language)
        for language, run in groupby(pairs, key=lambda pair: pair[1])
        for window in plan_windows([stretch for stretch, _ in run])
    ]
