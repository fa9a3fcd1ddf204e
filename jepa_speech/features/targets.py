"""Regression targets of PASE's and PASE+'s workers, by worker: 100 frames per second, of clean audio at level 1.

1e-6 is added to every power before its logarithm, about 80 dB below speech at level 1.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.features.centred import HOP, power_spectrum
from jepa_speech.features.deltas import with_deltas
from jepa_speech.features.filters import dct_basis, gammatone_bank, mel_bank
from jepa_speech.features.prosody import prosody

FLOOR = 1e-6
BANDS = 40


def log_power(audio: jax.Array, window: int) -> jax.Array:
    """Returns the power spectrum in decibels: (B, S) -> (B, T, 1025)."""
    return decibels(power_spectrum(audio, window, 2048))


def log_mel(audio: jax.Array, window: int, n_fft: int) -> jax.Array:
    """Returns the natural logarithm of 40 mel bands: (B, S) -> (B, T, 40)."""
    return jnp.log(bands(power_spectrum(audio, window, n_fft), mel_bank(BANDS, n_fft)) + FLOOR)


def log_gammatone(audio: jax.Array, window: int, n_fft: int) -> jax.Array:
    """Returns the natural logarithm of 40 gammatone bands from 500 Hz, of a power spectrum: (B, S) -> (B, T, 40)."""
    return jnp.log(bands(power_spectrum(audio, window, n_fft), gammatone_bank(BANDS, n_fft)) + FLOOR)


def cepstra(audio: jax.Array, window: int, n_fft: int, count: int) -> jax.Array:
    """Returns the first coefficients of the orthonormal DCT-II of 40 mel bands in decibels: (B, S) -> (B, T, count).

    PASE takes librosa's 128 Slaney bands, of which many are empty at its n_fft of 400.
    """
    mel = bands(power_spectrum(audio, window, n_fft), mel_bank(BANDS, n_fft))
    return jnp.matmul(decibels(mel), dct_basis(BANDS, count), precision="highest")


def bands(power: jax.Array, bank: np.ndarray) -> jax.Array:
    return jnp.matmul(power, bank, precision="highest")


def decibels(power: jax.Array) -> jax.Array:
    return 10 * jnp.log10(power + FLOOR)


class Target(NamedTuple):
    extract: Callable[[jax.Array], jax.Array]  # (B, S) -> (B, T, width)
    width: int


TARGETS = {
    "lps": Target(partial(log_power, window=400), 1025),
    "lps_long": Target(partial(log_power, window=512), 1025),
    "fbank": Target(partial(log_mel, window=400, n_fft=512), BANDS),
    "fbank_long": Target(partial(log_mel, window=1024, n_fft=1024), BANDS),
    "gammatone": Target(partial(log_gammatone, window=400, n_fft=512), BANDS),
    "gammatone_long": Target(partial(log_gammatone, window=2048, n_fft=2048), BANDS),
    "mfcc": Target(partial(cepstra, window=400, n_fft=512, count=20), 20),
    "mfcc13": Target(partial(cepstra, window=400, n_fft=512, count=13), 13),
    "mfcc_long": Target(partial(cepstra, window=2048, n_fft=2048, count=20), 20),
    "prosody": Target(prosody, 4),
}


def width(name: str, deltas: bool) -> int:
    return TARGETS[name].width * (3 if deltas else 1)


def target(name: str, audio: jax.Array, lengths: jax.Array, deltas: bool) -> jax.Array:
    """Returns a worker's target, not yet normalised: (B, S) -> (B, T, width(name, deltas)) float32.

    audio: silent after the valid samples. lengths: those, (B,).
    """
    features = TARGETS[name].extract(audio)
    return with_deltas(features, lengths // HOP) if deltas else features
