"""Pitch, voicing, energy and zero crossings, 100 frames a second (see `centred.py`), of audio at level 1.

Pitch is the best peak of the normalised cross-correlation between the two ends of a window (RAPT, Talkin 1995,
eq. 1). PASE took SWIPE; a regression target can have some octave errors.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.features.centred import windows
from jepa_speech.features.grid import SAMPLE_RATE

LOWEST, HIGHEST = 60.0, 300.0  # Hz
WINDOW, SHORT_WINDOW = 1024, 320  # samples, of pitch and of the others
VOICED = 0.5  # least correlation of a voiced frame
OCTAVE_COST = 0.05  # of correlation, per octave of lag, because the double period correlates as well as the period
QUIET = 1e-4  # power, added to that of both ends, so that frames 40 dB below the level are unvoiced
FLOOR = 1e-6  # power, added before the logarithm


def prosody(audio: jax.Array) -> jax.Array:
    """Returns four figures per frame: (B, S) -> (B, T, 4).

    They are log f0 (f0 in Hz, interpolated where unvoiced), 1 where voiced, the log of the mean power, and the share of
    samples at which the sign changes.
    """
    f0, voiced = pitch(audio)
    short = windows(audio, SHORT_WINDOW)  # (B, T, 320)
    energy = jnp.log(jnp.square(short).mean(-1) + FLOOR)
    negative = short < 0
    crossings = (negative[..., 1:] != negative[..., :-1]).sum(-1) / SHORT_WINDOW
    return jnp.stack([interpolate(jnp.log(f0), voiced), voiced, energy, crossings], -1).astype(jnp.float32)


def pitch(audio: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns f0 in Hz, meaningless where unvoiced, and whether a frame is voiced: (B, S) -> (B, T), (B, T)."""
    first, last = int(SAMPLE_RATE / HIGHEST), int(SAMPLE_RATE / LOWEST) + 1
    lags = np.arange(first - 1, last + 2)  # one more at each end, for the peaks' neighbours
    r = correlation(windows(audio, WINDOW))[..., lags]  # (B, T, lags)
    before, here, behind = r[..., :-2], r[..., 1:-1], r[..., 2:]
    peak = (here > before) & (here >= behind)
    score = jnp.where(peak, here - OCTAVE_COST * np.log2(lags[1:-1] / first), -jnp.inf)
    best = score.argmax(-1, keepdims=True)
    left, middle, right = (jnp.take_along_axis(x, best, -1)[..., 0] for x in (before, here, behind))
    bow = jnp.maximum(2 * middle - left - right, 1e-9)
    lag = best[..., 0] + lags[1] + jnp.clip((right - left) / (2 * bow), -0.5, 0.5)  # the parabola through three lags
    return SAMPLE_RATE / lag, peak.any(-1) & (middle > VOICED)


def correlation(x: jax.Array) -> jax.Array:
    """Returns Σ x_n x_{n+lag} over the root of both ends' energies: windows (…, N) -> (…, N), one value per lag."""
    size = x.shape[-1]
    spectrum = jnp.fft.rfft(x, 2 * size)
    product = jnp.fft.irfft(jnp.square(spectrum.real) + jnp.square(spectrum.imag), 2 * size)[..., :size]
    energy = jnp.cumsum(jnp.square(x), -1)
    total = energy[..., -1:]
    head = jnp.flip(energy, -1)  # of the samples 0 ... N-1-lag
    tail = total - jnp.pad(energy, [(0, 0)] * (x.ndim - 1) + [(1, 0)])[..., :-1]  # of lag ... N-1
    return product / jnp.sqrt((head + size * QUIET) * (jnp.maximum(tail, 0) + size * QUIET))


def interpolate(x: jax.Array, known: jax.Array) -> jax.Array:
    """Returns x (B, T) with linear interpolation between the `known` frames and the nearest known value at both ends.

    A row without known frames becomes log 60, as in PASE.
    """
    frame, size = jnp.arange(x.shape[1]), x.shape[1]
    before = jax.lax.cummax(jnp.where(known, frame, -1), axis=1)
    after = jax.lax.cummin(jnp.where(known, frame, size), axis=1, reverse=True)
    left = jnp.where(before < 0, after, before).clip(0, size - 1)
    right = jnp.where(after == size, before, after).clip(0, size - 1)
    share = (frame - left) / jnp.maximum(right - left, 1)
    a, b = jnp.take_along_axis(x, left, 1), jnp.take_along_axis(x, right, 1)
    return jnp.where(known.any(1, keepdims=True), a + share * (b - a), jnp.log(LOWEST))
