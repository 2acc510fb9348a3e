"""Estimate what kind of recording a transcript is of, because what is worth showing depends on it."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tasks.core.choice.signals import listed_share
from tasks.core.speech.terms import Line

Kind = Literal["talk", "conversation", "lesson", "stream"]
"""One speaker before an audience, people who talk with each other, someone who explains, someone live for hours."""
KINDS: tuple[Kind, ...] = get_args(Kind)

BRIEF_WORDS = 4
"""A sentence with at most this many words is often a reply, or a punch line."""
BREAK_SECONDS = 2.0
FURTHEST = 3.0
"""Deviations beyond which a trait speaks no louder against a kind: no trait decides alone."""
CAUTION = 2.5
"""Divides the evidence of all traits; 2 would suit traits that do not depend on each other."""


class Trait(BaseModel):
    """The usual value of a trait in recordings of each kind, and its standard deviation within a kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    usual: dict[Kind, float]
    spread: float = Field(gt=0)


def traits(lines: Sequence[Line]) -> dict[str, float]:
    """What distinguishes kinds of recordings. Those that need word lists are omitted if most sentences have none."""
    if not lines:
        return {}
    count = len(lines)
    minutes = max(lines[-1].sentence.end - lines[0].sentence.start, 1.0) / 60
    breaks = sum(b.sentence.start - a.sentence.end >= BREAK_SECONDS for a, b in pairwise(lines))
    found = {
        "questions": sum(line.is_question for line in lines) / count,
        "brief": sum(len(line.words) <= BRIEF_WORDS for line in lines) / count,
        "breaks": float(np.sqrt(breaks / minutes)),
        "minutes": float(np.log(minutes)),
    }
    if 2 * sum(line.lists is not None for line in lines) >= count:
        found |= {name: listed_share(lines, name) for name in ("unscripted", "second_person", "discourse")}
    return found


def kind_shares(lines: Sequence[Line], known: Mapping[str, Trait]) -> dict[Kind, float]:
    """How much a recording is of each kind; the shares add up to 1.

    Each trait speaks for the kinds whose usual value is near: normal distributions of equal spread.
    """
    found = traits(lines)
    against: dict[Kind, float] = dict.fromkeys(KINDS, 0.0)
    for name in found.keys() & known.keys():
        for kind, usual in known[name].usual.items():
            against[kind] += min(abs(found[name] - usual) / known[name].spread, FURTHEST) ** 2
    least = min(against.values())
    votes: dict[Kind, float] = {kind: float(np.exp((least - value) / CAUTION)) for kind, value in against.items()}
    return {kind: vote / sum(votes.values()) for kind, vote in votes.items()}
