"""PASE's targets against librosa, with silence beyond the ends."""

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from jepa_speech.features.deltas import with_deltas
from jepa_speech.features.targets import FLOOR, TARGETS, target, width

AUDIO = np.random.default_rng(0).normal(size=5000).astype(np.float32)
AUDIO *= 0.1 + np.abs(np.sin(np.arange(5000) / 700)).astype(np.float32)
FRAMES = 31


def librosa_power(window: int, n_fft: int) -> np.ndarray:
    options = {"n_fft": n_fft, "hop_length": 160, "win_length": window, "center": True, "pad_mode": "constant"}
    return np.abs(librosa.stft(AUDIO.astype(np.float64), **options).T[:FRAMES]) ** 2


def of(name: str) -> np.ndarray:
    return np.asarray(TARGETS[name].extract(jnp.asarray(AUDIO[None]))[0])


@pytest.mark.parametrize(("name", "window"), [("lps", 400), ("lps_long", 512)])
def test_log_power_spectrum_is_librosas(name, window):
    expected = 10 * np.log10(librosa_power(window, 2048) + FLOOR)
    np.testing.assert_allclose(of(name), expected, atol=5e-3)  # decibels: 1e-3 in the power


@pytest.mark.parametrize(("name", "window", "n_fft"), [("fbank", 400, 512), ("fbank_long", 1024, 1024)])
def test_log_mel_is_librosas(name, window, n_fft):
    bank = librosa.filters.mel(sr=16_000, n_fft=n_fft, n_mels=40, htk=True, norm=None)
    np.testing.assert_allclose(of(name), np.log(librosa_power(window, n_fft) @ bank.T + FLOOR), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "window", "n_fft", "count"),
    [("mfcc", 400, 512, 20), ("mfcc13", 400, 512, 13), ("mfcc_long", 2048, 2048, 20)],
)
def test_cepstra_are_librosas(name, window, n_fft, count):
    bank = librosa.filters.mel(sr=16_000, n_fft=n_fft, n_mels=40, htk=True, norm=None)
    decibels = 10 * np.log10(librosa_power(window, n_fft) @ bank.T + FLOOR)
    np.testing.assert_allclose(of(name), librosa.feature.mfcc(S=decibels.T, n_mfcc=count).T, atol=1e-3)


def test_a_tone_lies_in_its_gammatone_band():
    tone = np.sin(2 * np.pi * 2000 * np.arange(8000) / 16_000).astype(np.float32)
    for name in ("gammatone", "gammatone_long"):
        frame = np.asarray(TARGETS[name].extract(jnp.asarray(tone[None]))[0, 25])
        scale = 24.7 * 9.265
        centres = np.exp(np.linspace(np.log(500 + scale), np.log(8000 + scale), 40, endpoint=False)) - scale
        assert frame.argmax() == np.abs(centres - 2000).argmin()


def test_deltas_are_librosas():
    x = np.random.default_rng(1).normal(size=(1, 30, 3)).astype(np.float32)
    got = np.asarray(with_deltas(jnp.asarray(x), jnp.array([30])))[0]
    for order in (1, 2):
        expected = librosa.feature.delta(x[0], order=order, axis=0, mode="nearest")
        np.testing.assert_allclose(got[:, 3 * order : 3 * order + 3], expected, atol=1e-5)


def test_padding_changes_no_target_and_widths_are_as_told():
    run = jax.jit(lambda x: {name: target(name, x, jnp.array([5000]), True) for name in TARGETS})
    alone, padded = run(AUDIO[None]), run(np.pad(AUDIO, (0, 3000))[None])
    for name in TARGETS:
        assert alone[name].shape == (1, FRAMES, width(name, True)) and padded[name].shape[1] == 50
        np.testing.assert_allclose(padded[name][:, :FRAMES], alone[name], atol=1e-4, err_msg=name)
