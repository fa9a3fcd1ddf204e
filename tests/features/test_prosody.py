import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from jepa_speech.features.prosody import FLOOR, interpolate, pitch, prosody

TIME = np.arange(8000) / 16_000
INNER = slice(4, 46)  # frames whose window lies within half a second


def pulses(f0: float) -> np.ndarray:
    """A buzz with harmonics up to 4 kHz, as of a voice: level about 1."""
    wave = sum(np.cos(2 * np.pi * f0 * k * TIME + k) / k for k in range(1, int(4000 / f0)))
    return (wave / np.sqrt(np.mean(wave**2))).astype(np.float32)


def test_a_tone_has_its_pitch():
    frequencies = [65.0, 100.0, 151.3, 210.0, 290.0]
    for make in (lambda f: np.sqrt(2) * np.sin(2 * np.pi * f * TIME).astype(np.float32), pulses):
        waves = jnp.asarray(np.stack([make(f) for f in frequencies]))
        f0, voiced = jax.jit(pitch)(waves)
        assert voiced[:, INNER].all()
        np.testing.assert_allclose(f0[:, INNER], np.tile(np.array(frequencies)[:, None], 42), rtol=0.01)


def test_noise_and_silence_are_unvoiced():
    noise = np.random.default_rng(0).normal(size=(2, 8000)).astype(np.float32)
    noise[1] = 0
    features = jax.jit(prosody)(noise)
    np.testing.assert_allclose(features[1, :, 0], np.log(60), rtol=1e-6)
    assert not features[:, INNER, 1].any()
    np.testing.assert_allclose(features[1, :, 2], np.log(FLOOR), rtol=1e-6)


def test_a_hum_far_beneath_the_level_is_unvoiced():
    assert not jax.jit(pitch)(1e-3 * pulses(100.0)[None])[1].any()


def test_energy_and_crossings_are_librosas():
    wave = np.random.default_rng(1).normal(size=8000).astype(np.float32)
    wave += np.sin(2 * np.pi * 100 * TIME).astype(np.float32) * 3
    features = np.asarray(prosody(jnp.asarray(wave[None]))[0])
    rms = librosa.feature.rms(y=wave, frame_length=320, hop_length=160, pad_mode="constant")[0, :50]
    np.testing.assert_allclose(features[:, 2], np.log(rms**2 + FLOOR), atol=1e-4)
    crossings = librosa.feature.zero_crossing_rate(wave, frame_length=320, hop_length=160)[0, :50]
    np.testing.assert_allclose(features[1:49, 3], crossings[1:49], atol=1 / 319)  # it counts a crossing more or less


def test_a_tone_crosses_zero_twice_a_period():
    wave = np.sin(2 * np.pi * 500 * TIME + 0.3).astype(np.float32)
    crossings = prosody(jnp.asarray(wave[None]))[0, INNER, 3]
    assert crossings == pytest.approx(1000 / 16_000, abs=1 / 320)


def test_interpolation_is_numpys():
    rng = np.random.default_rng(2)
    x, known = rng.normal(size=(5, 40)).astype(np.float32), rng.random((5, 40)) < 0.2
    known[4] = False
    got = interpolate(jnp.asarray(x), jnp.asarray(known))
    for row in range(4):
        at = np.flatnonzero(known[row])
        np.testing.assert_allclose(got[row], np.interp(np.arange(40), at, x[row, at]), atol=1e-5)
    np.testing.assert_allclose(got[4], np.log(60), rtol=1e-6)
