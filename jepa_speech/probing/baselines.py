"""Baselines of probes: spectral features, alone or with ±5 frames of context."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import soxr

from jepa_speech.errors import UserError
from jepa_speech.features import spectral
from jepa_speech.features.grid import SAMPLE_RATE, WINDOW, frames
from jepa_speech.probing.extract import Extract

CONTEXT = 5
BASELINES = {
    "logmel": ("logmel", 0),
    "logmel5": ("logmel", CONTEXT),
    "mfcc": ("mfcc", 0),
    "mfcc5": ("mfcc", CONTEXT),
    "mfcc100": ("mfcc100", 0),
}
_BUCKET = 4 * SAMPLE_RATE


def baseline(name: str) -> Extract:
    """Returns the extractor of a baseline: wave (S,) at any level and rate -> one layer (T, D)."""
    kind, context = BASELINES[name]

    def extract(wave: np.ndarray, sample_rate: int) -> list[np.ndarray]:
        wave = standardise(wave, sample_rate)
        features = np.asarray(_features(kind, pad(wave), np.int32(len(wave))))[: frames(len(wave))]
        return [with_context(features, context)]

    return extract


def standardise(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """Converts a wave to 16 kHz, mean 0 and RMS 1; silence is unchanged. Raises UserError if it is under one frame."""
    wave = np.asarray(wave, np.float32)  # of int16, soxr would give int16 and add noise to it (findings)
    if sample_rate != SAMPLE_RATE:
        wave = soxr.resample(wave, sample_rate, SAMPLE_RATE)
    if len(wave) < WINDOW:
        raise UserError(f"{len(wave)} samples at 16 kHz are less than one frame ({WINDOW} samples)")
    wave = wave - wave.mean()
    return (wave / (np.sqrt(np.mean(np.square(wave))) or 1.0)).astype(np.float32)


def pad(wave: np.ndarray) -> np.ndarray:
    """Pads a wave (S,) with zeros to one of few lengths, because each length is compiled."""
    return np.pad(wave, (0, -len(wave) % _BUCKET))


def with_context(features: np.ndarray, context: int) -> np.ndarray:
    """Concatenates every frame with its neighbours: (T, D) -> (T, (2 context + 1) D). Edge frames are repeated."""
    padded = np.pad(features, ((context, context), (0, 0)), mode="edge")
    return np.concatenate([padded[i : i + len(features)] for i in range(2 * context + 1)], axis=1)


@partial(jax.jit, static_argnames="kind")
def _features(kind: str, audio: jax.Array, length: jax.Array) -> jax.Array:
    return jnp.asarray(spectral.extract(kind, audio[None], length[None])[0])
