"""Cut detection on generated frames."""

import numpy as np

from tasks.engines.picture.scenes import CutFinder


def feed(frames, fps):
    finder = CutFinder(fps)
    reported = [number for number, frame in enumerate(frames) if finder.feed(frame)]
    return finder.cuts, reported


def scene(seed, frames, shift=0):
    """A picture of coloured blocks that slides by `shift` pixels per frame."""
    blocks = np.random.default_rng(seed).integers(0, 255, (9, 16, 3)).astype(np.uint8)
    picture = blocks.repeat(10, axis=0).repeat(10, axis=1)
    return [np.roll(picture, shift * n, axis=1) for n in range(frames)]


def test_cuts_are_found_at_their_frame_and_reported_two_frames_later():
    cuts, reported = feed(scene(1, 40) + scene(2, 35) + scene(3, 40), 25.0)
    assert cuts == [40, 75]
    assert reported == [42, 77]


def test_a_flash_is_not_a_shot():
    flash = [np.full((90, 160, 3), 255, np.uint8)] * 2
    cuts, _ = feed(scene(1, 40) + flash + scene(1, 40), 25.0)
    assert len(cuts) <= 1


def test_a_moving_camera_is_not_a_cut():
    cuts, _ = feed(scene(1, 120, shift=1), 25.0)
    assert cuts == []
