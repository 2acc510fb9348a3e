"""Which sound track of a file is used, and how its channels become stereo that also works in mono."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tasks.core.languages import same_language
from tasks.core.media import AudioTrack
from tasks.core.picture.motion import stretches

WINDOWS_PER_SECOND = 2
"""How often a track's channels are compared."""
AUDIBLE = 1e-6
"""Mean square (-60 dBFS) below which a window is silent; a track is silent if all its windows are."""
FAINT = 1e-3
"""A channel 30 dB below another adds nothing."""
CANCELS = 0.1
"""Share of two channels' power left in mono below which they cancel each other out: a loss of 10 dB."""
MOSTLY = 0.5
"""Share of the audible windows that decides for the whole track."""
MOST_STRETCHES = 200
"""With more stretches than this, the whole track is treated alike."""


class Mix(NamedTuple):
    """An ffmpeg filter that corrects a track's stereo, and why it is needed; both empty if the stereo is right."""

    filter: str = ""
    reason: str = ""


UNCHANGED = Mix()


def ranked(tracks: Sequence[AudioTrack], asked: str, original: str | None = None) -> list[AudioTrack]:
    """Tracks, best first: the default flag counts most, then programme, language and original flag, then order.

    `asked` is auto or a Whisper code, `original` the language named by the source's page.
    """

    def worth(track: AudioTrack) -> tuple[bool, bool, bool, bool]:
        spoken = same_language(track.language, asked if asked != "auto" else original)
        return (track.default, not track.aside, spoken, track.original)

    return sorted(tracks, key=worth, reverse=True)


def is_silent(power: np.ndarray) -> bool:
    """Whether no window of a track is audible; `power` is as in `stereo_mix`."""
    return not len(power) or bool(np.diagonal(power, axis1=1, axis2=2).max() <= AUDIBLE)


def stereo_mix(power: np.ndarray) -> Mix:
    """The mix that makes two channels sound right on two speakers and on one.

    `power` has shape (windows, 2, 2): the mean products of the left and right channels in each window.
    """
    left, right, both = power[:, 0, 0], power[:, 1, 1], power[:, 0, 1]
    louder = np.maximum(left, right)
    audible = louder > max(AUDIBLE, FAINT * float(louder.max(initial=0.0)))
    count = int(audible.sum())
    if not count:
        return UNCHANGED
    lopsided = audible & (np.minimum(left, right) < FAINT * louder)
    cancels = audible & ~lopsided & (left + right + 2 * both < CANCELS * 2 * (left + right))
    better = 0 if left.sum() >= right.sum() else 1
    if lopsided.sum() >= MOSTLY * count:
        return _one_sided(lopsided & (left > right), lopsided & (right > left), better)
    if cancels.sum() >= MOSTLY * count:
        return Mix(_pan({better: 1.0}), f"the channels cancel each other out: the {_side(better)} one is used")
    return _mend(cancels)


def _one_sided(left: np.ndarray, right: np.ndarray, better: int) -> Mix:
    if min(left.sum(), right.sum()) > (1 - MOSTLY) * 0.1 * max(left.sum(), right.sum()):
        return Mix(_pan({0: 0.5, 1: 0.5}), "each channel has a sound of its own: both are mixed")
    return Mix(_pan({better: 1.0}), f"only the {_side(better)} channel has sound: it is used for both")


def _mend(cancels: np.ndarray) -> Mix:
    """Use the left channel for both wherever they cancel each other out."""
    found = stretches([bool(c) for c in cancels], 0.0, WINDOWS_PER_SECOND, 1 / WINDOWS_PER_SECOND)
    if not found:
        return UNCHANGED
    if len(found) > MOST_STRETCHES:
        return Mix(_pan({0: 1.0}), "the channels often cancel each other out: the left one is used")
    inside = "+".join(f"between(t,{start:g},{end:g})" for start, end in found)
    seconds = sum(end - start for start, end in found)
    return Mix(
        f"aeval=exprs='val(0)|if({inside},val(0),val(1))':channel_layout=same",
        f"the channels cancel each other out for {seconds:.0f} s: the left one is used there",
    )


def discrete_mix(power: np.ndarray) -> Mix:
    """Stereo from channels of unknown layout: the audible ones, without any that cancel others.

    `power` has shape (windows, channels, channels), as in `stereo_mix`.
    """
    sums = power.sum(axis=0)
    loud = np.diagonal(sums)
    order = [int(c) for c in np.argsort(-loud, kind="stable") if loud[c] > FAINT * loud.max()] or [0]
    taken = order[:1]
    for channel in order[1:]:
        mixed, shared = sums[np.ix_(taken, taken)].sum(), sums[taken, channel].sum()
        if shared > -MOSTLY * float(np.sqrt(mixed * loud[channel])):
            taken.append(channel)
    numbers = ", ".join(str(c + 1) for c in sorted(taken))
    return Mix(
        _pan({channel: 1 / len(taken) for channel in sorted(taken)}),
        f"the file does not say what its {len(loud)} channels are: mixed from channel {numbers}",
    )


def _pan(weights: dict[int, float]) -> str:
    side = "+".join(f"{weight:.4f}*c{channel}" for channel, weight in weights.items())
    return f"pan=stereo|c0={side}|c1={side}"


def _side(channel: int) -> str:
    return ("left", "right")[channel]
