"""What each signal weighs, for each kind of recording: learned weights from `weights.json`, and judged ones.

The learned ones come from `docs/learn_weights.py`, which says from which data and how.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from pydantic import BaseModel, ConfigDict

from tasks.core.choice.kinds import KINDS, Kind, Trait


@dataclass(frozen=True)
class Weight:
    """A judged weight and its reason. `only` names the kinds of recordings in which it counts; empty for all."""

    value: float
    reason: str
    only: tuple[Kind, ...] = ()


JUDGED: dict[str, Weight] = {
    "opening": Weight(1.25, "the first sentence decides whether people keep watching"),
    "completeness": Weight(0.75, "a clip needs an ending"),
    "topic": Weight(0.5, "one subject from start to end"),
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


def mixed_weights(shares: Mapping[Kind, float]) -> dict[str, float]:
    """The weight of each signal in a recording that is of each kind by these shares."""
    mixed = {name: sum(shares[kind] * by_kind[kind] for kind in KINDS) for name, by_kind in learned().weights.items()}
    for name, weight in JUDGED.items():
        mixed[name] = weight.value * sum(shares[kind] for kind in weight.only or KINDS)
    return mixed
