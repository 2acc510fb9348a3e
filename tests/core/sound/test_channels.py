"""The choice of a sound track and the mix of its channels, from numbers alone."""

import numpy as np
import pytest

from tasks.core.languages import same_language
from tasks.core.sound.channels import AudioTrack, discrete_mix, is_silent, rank_tracks, stereo_mix

RNG = np.random.default_rng(1)


def track(index: int, **more) -> AudioTrack:
    return AudioTrack(index=index, codec="aac", sample_rate=48000, channels=2, layout="stereo", **more)


def power(*channels: np.ndarray) -> np.ndarray:
    """The covariance of channels of shape (windows, samples)."""
    both = np.stack(channels, axis=2)
    return np.einsum("wsc,wsd->wcd", both, both) / both.shape[1]


def noise(windows: int = 20) -> np.ndarray:
    return RNG.normal(0, 0.1, (windows, 400))


@pytest.mark.parametrize(
    ("tracks", "requested", "original", "best"),
    [
        ([{}, {}], "auto", None, 0),
        ([{"aside": True}, {"default": True}], "auto", None, 1),
        ([{"default": True}, {"language": "spa"}], "es", None, 0),
        ([{"language": "ger"}, {"language": "spa"}], "es", None, 1),
        ([{"language": "ger", "default": True}, {"language": "spa", "default": True}], "es", None, 1),
        ([{"language": "eng"}, {"language": "deu"}], "auto", "de", 1),
        ([{"language": "eng"}, {"language": "deu", "original": True}], "auto", None, 1),
        ([{"aside": True, "language": "eng"}, {"language": "fra"}], "en", None, 1),
        ([{"aside": True, "default": True}, {"default": True}], "auto", None, 1),
        ([{"language": "eng"}, {"language": "fra"}], "ja", None, 0),
    ],
)
def test_tracks_are_ranked_by_default_then_language_then_order(tracks, requested, original, best):
    assert rank_tracks([track(n, **flags) for n, flags in enumerate(tracks)], requested, original)[0].index == best


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("ger", "de", True),
        ("deu", "de-AT", True),
        ("en_US", "eng", True),
        ("und", "und", False),
        (None, "en", False),
        ("es", "pt", False),
    ],
)
def test_languages_match_by_any_of_their_codes(one, other, same):
    assert same_language(one, other) is same


def test_ordinary_stereo_is_left_unchanged():
    left, right = noise(), noise()
    assert stereo_mix(power(left, right)).filter == ""
    assert stereo_mix(power(left, left)).filter == ""
    assert stereo_mix(power(left, 0.2 * left)).filter == ""


def test_one_of_two_cancelling_channels_is_used():
    left = noise()
    assert "c0=1.0000*c0|c1=1.0000*c0" in stereo_mix(power(left, -left)).filter
    assert "c0=1.0000*c1|c1=1.0000*c1" in stereo_mix(power(left, -1.2 * left)).filter


def test_only_a_cancelling_stretch_is_corrected():
    left, right = noise(), noise()
    right[4:7] = -left[4:7]
    mix = stereo_mix(power(left, right))
    assert "between(t,2,3.5)" in mix.filter
    assert "2 s" in mix.reason


def test_one_sided_sound_is_put_on_both_channels():
    sound, nothing = noise(), np.zeros((20, 400))
    assert "c1=1.0000*c0" in stereo_mix(power(sound, nothing)).filter
    assert "c0=1.0000*c1" in stereo_mix(power(nothing, sound)).filter


def test_a_speaker_on_each_side_is_heard_on_both():
    left, right = noise(), noise()
    left[::2], right[1::2] = 0, 0
    assert "c0=0.5000*c0+0.5000*c1|c1=0.5000*c0+0.5000*c1" in stereo_mix(power(left, right)).filter


def test_silence_needs_no_mix():
    nothing = np.zeros((20, 400))
    assert is_silent(power(nothing, nothing))
    assert stereo_mix(power(nothing, nothing)).filter == ""
    assert not is_silent(power(noise(), nothing))


def test_discrete_channels_with_speech_are_mixed():
    speech, other, nothing = noise(), noise(), np.zeros((20, 400))
    assert "c0=1.0000*c2|" in discrete_mix(power(nothing, nothing, speech, nothing)).filter
    assert "0.5000*c0+0.5000*c3|" in discrete_mix(power(speech, nothing, nothing, other)).filter
    assert "c0=1.0000*c1|" in discrete_mix(power(-0.9 * speech, speech, nothing, nothing)).filter
