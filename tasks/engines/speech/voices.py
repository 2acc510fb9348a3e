"""Finds speech with the Silero voice detector that faster-whisper bundles."""

from faster_whisper.vad import VadOptions, get_speech_timestamps

from tasks.core.speech import asr
from tasks.core.speech.asr import SAMPLE_RATE, Samples, Stretch

FRESH_SECONDS = 4.0
"""Length of the pieces in which gaps are checked again."""
_VAD = VadOptions(min_silence_duration_ms=160, max_speech_duration_s=12.0, speech_pad_ms=200)


def find_speech(samples: Samples) -> list[Stretch]:
    """Stretches of speech, each padded by 0.2 s.

    The detector keeps state and misses voices for seconds after loud music. So a fresh detector checks
    everything that it left out, in short, overlapping pieces.
    """
    speech = _detect(samples)
    fresh = [one for gap in asr.silences(speech, len(samples) / SAMPLE_RATE) for one in _missed_speech(samples, gap)]
    return asr.merge_overlapping([*speech, *fresh])


def _missed_speech(samples: Samples, gap: Stretch) -> list[Stretch]:
    """Speech that a fresh detector finds in a gap. It starts early and ends late to get some context."""
    reach = Stretch(
        max(gap.start - FRESH_SECONDS / 2, 0.0), min(gap.end + FRESH_SECONDS / 4, len(samples) / SAMPLE_RATE)
    )
    count = max(int((reach.duration - 1.0) // (FRESH_SECONDS / 2)) + 1, 1)
    found = [
        Stretch(max(one.start, gap.start), min(one.end, gap.end))
        for i in range(count)
        for one in _detect(
            samples,
            reach.start + i * FRESH_SECONDS / 2,
            min(reach.start + i * FRESH_SECONDS / 2 + FRESH_SECONDS, reach.end),
        )
    ]
    return [one for one in found if one.duration > 0.1]


def _detect(samples: Samples, begin: float = 0.0, end: float | None = None) -> list[Stretch]:
    """Stretches of speech between two times, by a fresh detector."""
    return [
        Stretch(begin + found["start"] / SAMPLE_RATE, begin + found["end"] / SAMPLE_RATE)
        for found in get_speech_timestamps(samples_in(samples, Stretch(begin, end or len(samples) / SAMPLE_RATE)), _VAD)
    ]


def samples_in(samples: Samples, window: Stretch) -> Samples:
    return samples[int(window.start * SAMPLE_RATE) : int(window.end * SAMPLE_RATE)]
