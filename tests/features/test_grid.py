import numpy as np
import pytest

from jepa_speech.features import grid


@pytest.mark.parametrize(
    ("samples", "frames"),
    [(0, 0), (79, 0), (399, 0), (400, 1), (719, 1), (720, 2), (16_000, 49), (240_000, 749)],
)
def test_frames(samples, frames):
    assert grid.frames(samples) == frames
    assert grid.frames(np.array([samples]))[0] == frames


def test_samples_is_the_smallest_that_holds_the_frames():
    assert grid.samples(0) == 0
    for count in range(1, 200):
        assert grid.frames(grid.samples(count)) == count
        assert grid.frames(grid.samples(count) - 1) == count - 1
