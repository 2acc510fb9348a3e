"""Choose a file's audio track, and mix its channels to stereo that still works in mono."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tasks.core.languages import same_language
from tasks.core.media import AudioTrack
from tasks.core.picture.motion import stretches

WINDOWS_PER_SECOND = 2
"""Windows per second in which a track's channels are compared."""
AUDIBLE = 1e-6
"""Mean square (-60 dBFS) below which a window is silent; a track is silent if all its windows are."""
FAINT = 1e-3
"""Power ratio (-30 dB) below which the weaker channel adds nothing."""
CANCELLED = 0.1
"""Share of two channels' power that survives in mono (-10 dB) below which they cancel each other out."""
MAJORITY = 0.5
"""Share of the audible windows that decides for the whole track."""
MAX_STRETCHES = 200
"""With more stretches than this, the whole track is treated the same."""


class Mix(NamedTuple):
    """An ffmpeg filter that repairs a track's stereo, and why it is needed; both are empty if nothing is wrong."""

    filter: str = ""
    reason: str = ""


UNCHANGED = Mix()


def rank_tracks(tracks: Sequence[AudioTrack], requested: str, original: str | None = None) -> list[AudioTrack]:
    """Sort tracks, best first: by default flag, then main programme, language, original flag and file order.

    `requested` is auto or a Whisper code, `original` the language according to the source's page.
    """

    def preference(track: AudioTrack) -> tuple[bool, bool, bool, bool]:
        is_spoken = same_language(track.language, requested if requested != "auto" else original)
        return (track.default, not track.aside, is_spoken, track.original)

    return sorted(tracks, key=preference, reverse=True)


def is_silent(power: np.ndarray) -> bool:
    """Whether no window of a track is audible; `power` is as in `stereo_mix`."""
    return not len(power) or bool(np.diagonal(power, axis1=1, axis2=2).max() <= AUDIBLE)


def stereo_mix(power: np.ndarray) -> Mix:
    """The mix that makes a stereo track sound right on two speakers and on one.

    `power` has shape (windows, 2, 2): the mean products of the left and right channels in each window.
    """
    left, right, both = power[:, 0, 0], power[:, 1, 1], power[:, 0, 1]
    louder = np.maximum(left, right)
    audible = louder > max(AUDIBLE, FAINT * float(louder.max(initial=0.0)))
    count = int(audible.sum())
    if not count:
        return UNCHANGED
    lopsided = audible & (np.minimum(left, right) < FAINT * louder)
    cancelled = audible & ~lopsided & (left + right + 2 * both < CANCELLED * 2 * (left + right))
    stronger = 0 if left.sum() >= right.sum() else 1
    if lopsided.sum() >= MAJORITY * count:
        return _one_sided(lopsided & (left > right), lopsided & (right > left), stronger)
    if cancelled.sum() >= MAJORITY * count:
        return Mix(_pan({stronger: 1.0}), f"the channels cancel each other out: the {_side(stronger)} one is used")
    return _replace_cancelled(cancelled)


def _one_sided(left: np.ndarray, right: np.ndarray, stronger: int) -> Mix:
    if min(left.sum(), right.sum()) > (1 - MAJORITY) * 0.1 * max(left.sum(), right.sum()):
        return Mix(_pan({0: 0.5, 1: 0.5}), "the channels carry different sounds: both are mixed")
    return Mix(_pan({stronger: 1.0}), f"only the {_side(stronger)} channel has sound: it is used for both")


def _replace_cancelled(cancelled: np.ndarray) -> Mix:
    """Use the left channel for both wherever they cancel each other out."""
    found = stretches([bool(c) for c in cancelled], 0.0, WINDOWS_PER_SECOND, 1 / WINDOWS_PER_SECOND)
    if not found:
        return UNCHANGED
    if len(found) > MAX_STRETCHES:
        return Mix(_pan({0: 1.0}), "the channels often cancel each other out: the left one is used")
    inside = "+".join(f"between(t,{start:g},{end:g})" for start, end in found)
    seconds = sum(end - start for start, end in found)
    return Mix(
        f"aeval=exprs='val(0)|if({inside},val(0),val(1))':channel_layout=same",
        f"the channels cancel each other out for {seconds:.0f} s: the left one is used there",
    )


def discrete_mix(power: np.ndarray) -> Mix:
    """Mix channels of unknown layout: the audible ones, except those that cancel others.

    `power` has shape (windows, channels, channels), as in `stereo_mix`.
    """
    sums = power.sum(axis=0)
    loud = np.diagonal(sums)
    order = [int(c) for c in np.argsort(-loud, kind="stable") if loud[c] > FAINT * loud.max()] or [0]
    chosen = order[:1]
    for channel in order[1:]:
        mixed, shared = sums[np.ix_(chosen, chosen)].sum(), sums[chosen, channel].sum()
        if shared > -MAJORITY * float(np.sqrt(mixed * loud[channel])):
            chosen.append(channel)
    numbers = ", ".join(str(c + 1) for c in sorted(chosen))
    return Mix(
        _pan({channel: 1 / len(chosen) for channel in sorted(chosen)}),
        f"the file does not say what its {len(loud)} channels are: mixed from channel {numbers}",
    )


def _pan(weights: dict[int, float]) -> str:
    side = "+".join(f"{weight:.4f}*c{channel}" for channel, weight in weights.items())
    return f"pan=stereo|c0={side}|c1={side}"


def _side(channel: int) -> str:
    return ("left", "right")[channel]
