"""What each signal weighs, for each kind of recording: learned weights from `weights.json`, and judged ones.

The learned ones come from `docs/learn_weights.py`, which says from which data and how.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import numpy as np
from pydantic import BaseModel, ConfigDict

from tasks.core.choice.kinds import KINDS, Kind, Trait
from tasks.core.choice.windows import Floats

LEARNED_DEVIATION = 5.0
"""Deviation of the learned part of the score within a recording, next to which the judged weights were chosen."""
PLACE = ("early", "closing")
"""Signals that say where in the recording a window is."""
MOST_PLACE = 0.75
"""How much these may count, as a share of all other learned signals: the best part may be anywhere."""
FLAT = 1e-9
"""Deviation below which the learned part of the score says nothing."""


@dataclass(frozen=True)
class Weight:
    """A judged weight and its reason. `only` names the kinds of recordings in which it counts; empty for all."""

    value: float
    reason: str
    only: tuple[Kind, ...] = ()


JUDGED: dict[str, Weight] = {
    "opening": Weight(0.8, "the first sentence decides whether people keep watching"),
    "completeness": Weight(0.5, "a clip needs an ending"),
    "topic": Weight(0.25, "one subject from start to end"),
    "loudness": Weight(0.4, "speakers raise their voice at what matters to them"),
    "dynamics": Weight(0.2, "against monotone stretches"),
    "melody": Weight(0.3, "against monotone stretches"),
    "reaction": Weight(1.0, "applause or laughter, inferred from noise while nobody speaks"),
    "replays": Weight(1.5, "viewers have voted"),
    "chapter": Weight(0.5, "the creator marked a new topic inside it"),
    "promotion": Weight(-1.5, "sponsors, calls to subscribe and introductions are not highlights"),
    "repetition": Weight(-1.0, "a recogniser loop, or a chant"),
    "asked_topic": Weight(5.0, "it was asked for"),
    "dead_air": Weight(
        -1.0,
        "seconds without a word lose viewers, but before an audience they are its laughter",
        ("conversation", "lesson", "stream"),
    ),
}


class Learned(BaseModel):
    """`weights.json`: a weight for each signal and kind, and the traits by which the kind is estimated.

    `about` says where the numbers come from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: dict[str, str]
    weights: dict[str, dict[Kind, float]]
    traits: dict[str, Trait]


@functools.cache
def learned() -> Learned:
    text = (resources.files("tasks.core.choice") / "weights.json").read_text(encoding="utf-8")
    return Learned.model_validate_json(text)


def signal_names() -> list[str]:
    """The names of all signals that have a weight."""
    return [*learned().weights, *JUDGED]


def applied_weights(signals: Mapping[str, Floats], shares: Mapping[Kind, float]) -> dict[str, float]:
    """The weight of each of these signals, in a recording that is of each kind by these shares.

    The learned part of the score is given the same deviation in every recording, whichever signals there are. In none
    does position count for more than `MOST_PLACE` allows.
    """
    mixed = {
        name: sum(shares[kind] * by_kind[kind] for kind in KINDS)
        for name, by_kind in learned().weights.items()
        if name in signals
    }
    place, rest = (
        _deviation({n: w for n, w in mixed.items() if (n in PLACE) == is_place}, signals) for is_place in (True, False)
    )
    bound = min(1.0, MOST_PLACE * rest / max(place, FLAT))
    mixed = {name: weight * bound if name in PLACE else weight for name, weight in mixed.items()}
    deviation = _deviation(mixed, signals)
    scale = LEARNED_DEVIATION / deviation if deviation > FLAT else 0.0
    judged = {
        name: weight.value * sum(shares[kind] for kind in weight.only or KINDS)
        for name, weight in JUDGED.items()
        if name in signals
    }
    return {name: scale * weight for name, weight in mixed.items()} | judged


def _deviation(weights: Mapping[str, float], signals: Mapping[str, Floats]) -> float:
    """Standard deviation of the weighted sum of the signals; 0 without any."""
    return float(np.std(sum((weight * signals[name] for name, weight in weights.items()), np.zeros(1))))
