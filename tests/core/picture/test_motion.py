"""Detection of black and frozen frames."""

import numpy as np

from tasks.core.picture.motion import difference, is_black, is_frozen, stretches


def test_a_black_frame_may_have_a_logo_and_noise():
    luma = np.random.default_rng(0).integers(16, 30, (90, 160)).astype(np.uint8)
    assert is_black(luma)
    luma[:10, :20] = 200
    assert is_black(luma)
    luma[:40] = 60
    assert not is_black(luma)


def test_encoder_noise_counts_as_frozen_and_a_moving_mouth_does_not():
    random = np.random.default_rng(0)
    luma = random.integers(50, 200, (90, 160)).astype(np.uint8)
    noisy, talking = luma.copy(), luma.copy()
    noisy[random.random(luma.shape) < 0.1] += 1
    talking[40:50, 70:90] = 20
    assert not is_frozen(difference(luma, None))
    assert is_frozen(difference(luma, luma))
    assert is_frozen(difference(noisy, luma))
    assert not is_frozen(difference(talking, luma))


def test_stretches_are_on_the_sources_clock_and_long_enough():
    flags = [False] * 10 + [True] * 20 + [False] * 5 + [True] * 4 + [False] + [True] * 10
    assert stretches(flags, 100.0, 10.0, 0.5) == [(101.0, 103.0), (104.0, 105.0)]
    assert stretches([], 0.0, 25.0, 0.5) == []
    assert stretches([True] * 25, 3.0, 25.0, 0.5) == [(3.0, 4.0)]
