"""Which waves are computed together, by a function whose frames are known: no model, so no compilation."""

import numpy as np
import pytest

from jepa_speech.features.grid import HOP, WINDOW, frames
from jepa_speech.pretrained import windows


class Sums:
    """Two layers: the sum of each frame's samples, and twice that; padded rows of other frames are filled with NaN."""

    def __init__(self):
        self.shapes = []

    def __call__(self, waves, lengths):
        waves, lengths = np.asarray(waves), np.asarray(lengths)
        self.shapes.append(waves.shape)
        x = np.stack([sums(row) for row in waves])[..., None]  # (B, T, 1)
        x[np.arange(x.shape[1]) >= frames(lengths)[:, None]] = np.nan
        return [x, 2 * x], frames(lengths)


def sums(wave: np.ndarray) -> np.ndarray:
    return np.array([wave[HOP * t : HOP * t + WINDOW].sum() for t in range(frames(len(wave)))])


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).normal(size=samples).astype(np.float32)


def test_every_wave_gets_its_own_frames_in_its_own_place():
    waves = [noise(n) for n in (400, 20_000, 16_000, 719, 1_500_123, 16_001, 400, 960_001, 20_319)]
    found = windows.layers_of(Sums(), waves, HOP)
    assert len(found) == len(waves)
    for wave, (one, two) in zip(waves, found, strict=True):
        np.testing.assert_allclose(one[:, 0], sums(wave), atol=1e-4)
        np.testing.assert_array_equal(two, 2 * one)


def test_frames_that_do_not_divide_a_window_are_kept_once():
    """Recordings of 1.5 and 50 s, with a grid that restarts at every window."""
    hop = 24_000
    wave = np.arange(200 * 16_000, dtype=np.float32)
    firsts = windows.layers_of(lambda x, lengths: ([np.asarray(x)[:, ::hop, None]], lengths // hop), [wave], hop)
    np.testing.assert_array_equal(firsts[0][0][:, 0], wave[::hop][: len(wave) // hop])


@pytest.mark.parametrize(
    ("samples", "count", "rows"),
    [(16_000, 37, [16, 16, 4, 1]), (100_000, 9, [4, 4, 1]), (960_000, 2, [1, 1]), (400, 3, [1, 1, 1])],
)
def test_a_batch_is_as_large_as_memory_for_the_longest_wave_allows(samples, count, rows):
    function = Sums()
    windows.layers_of(function, [noise(samples)] * count, HOP)
    assert [shape[0] for shape in function.shapes] == rows
    assert len({shape[1] for shape in function.shapes}) == 1


def test_shapes_stay_few_whatever_the_lengths():
    function, rng = Sums(), np.random.default_rng(0)
    for count in (1, 5, 40, 60):
        seconds = rng.choice([0.1, 0.9, 1.7, 3.0, 7.0, 12.0, 25.0, 50.0], count)
        windows.layers_of(function, [np.zeros(round(16_000 * s) + i, np.float32) for i, s in enumerate(seconds)], HOP)
    assert len(function.shapes) > len(set(function.shapes))
    assert len(set(function.shapes)) <= 15  # as `represent_batch` promises
