"""The path of a moving crop."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.picture.crop_path import constant_within, key_indices, smooth_path, taut_string


def test_a_constant_path_is_used_if_one_fits():
    low, high = np.array([0.0, 3.0, 1.0]), np.array([9.0, 8.0, 7.0])
    assert constant_within(low, high, 5.0) == 5.0
    assert constant_within(low, high, 1.0) == 3.0
    assert constant_within(low, high, 8.5) == 7.0
    assert constant_within(np.array([0.0, 8.0]), np.array([5.0, 9.0]), 4.0) is None


def test_a_steady_walk_is_one_straight_line_between_two_rests():
    times = np.linspace(0, 30, 151)
    centre = np.clip((times - 10) * 50, 0, 500)
    path = taut_string(times, centre - 60, centre + 60)
    assert np.allclose(path[times < 10], 60)
    assert np.allclose(path[times > 20], 440)
    assert len(key_indices(times, path)) == 4


@settings(max_examples=200)
@given(st.integers(0, 2**32), st.integers(2, 60), st.floats(0.1, 50))
def test_the_taut_string_stays_in_its_tube_and_is_shortest(seed, count, half):
    random = np.random.default_rng(seed)
    times = np.cumsum(random.uniform(0.05, 1, count))
    middle = np.cumsum(random.normal(0, 20, count))
    path = taut_string(times, middle - half, middle + half)
    assert (np.abs(path - middle) <= half + 1e-6).all()
    assert np.abs(np.diff(path)).sum() <= np.abs(np.diff(middle)).sum() + 1e-6


def test_smoothing_keeps_ends_and_bounds():
    times = np.array([0.0, 4.0, 6.0, 10.0])
    grid, values = smooth_path(times, np.array([0.0, 0.0, 100.0, 100.0]), 0.0, 10.0)
    assert (grid[0], grid[-1]) == (0, 10)
    assert (values[0], values[-1]) == (0, 100)
    assert np.abs(np.diff(values)).max() <= 0.1 * 50 + 1e-9
    assert abs(np.interp(5, grid, values) - 50) < 5


def test_keys_leave_out_points_on_a_line():
    grid = np.linspace(0, 10, 101)
    values = 40 * np.sin(grid)
    keys = key_indices(grid, values)
    assert len(keys) < 60
    assert np.abs(np.interp(grid, grid[keys], values[keys]) - values).max() <= 0.25
