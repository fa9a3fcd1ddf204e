"""Kaldi's filter bank, against a plain one in float64."""

import jax.numpy as jnp
import numpy as np

from jepa_speech.features.kaldi import LEVEL, filter_bank


def plain(wave: np.ndarray) -> np.ndarray:
    """(S,) in 16-bit units -> (T, 80), frame by frame, each step as Kaldi describes it."""

    def mel(hz):
        return 1127 * np.log(1 + hz / 700)

    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    corners = np.linspace(mel(20), mel(8000), 82)
    bins = mel(np.arange(257) * 16_000 / 512)
    rows = []
    for start in range(0, len(wave) - 399, 320):
        frame = wave[start : start + 400].astype(np.float64)
        frame = frame - frame.mean()
        frame = frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])
        power = np.abs(np.fft.rfft(frame * window, 512)) ** 2
        bands = []
        for low, centre, high in zip(corners[:-2], corners[1:-1], corners[2:], strict=True):
            weight = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
            bands.append(np.log(max(power @ np.maximum(weight, 0), 1.192092955078125e-07)))
        rows.append(bands)
    return np.array(rows)


def test_bands_are_those_of_a_plain_filter_bank():
    """Noise, then digital silence, where the floor holds. Off by 30 in the mean, which each frame takes out."""
    wave = np.random.default_rng(0).normal(30, 1, 5000).astype(np.float32)
    wave[2600:4000] = 0
    found = np.asarray(filter_bank(jnp.asarray(wave)))
    wanted = plain(wave * LEVEL)
    assert found.shape == wanted.shape == (15, 80)
    assert (wanted[9:12] == np.log(1.192092955078125e-07)).all()
    np.testing.assert_allclose(found, wanted, atol=2e-3)  # float32 has 5 digits left of noise on an offset of 30
