"""Constants in closed form: FIR band-pass filters, filter banks over the bins of a spectrum, Hann window, DCT."""

from functools import lru_cache
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.features.grid import SAMPLE_RATE

Values = TypeVar("Values", float, np.ndarray)


def band_pass(low: jax.Array, high: jax.Array, taps: int) -> jax.Array:
    """Returns band-pass filters between `low` and `high` Hz (N,), Hamming-windowed, with peak 1: (N, taps), taps odd.

        h[n] = cos(2π f_c n / f_s) · sinc(b n / f_s) · w[n],  n = -(taps-1)/2 ... (taps-1)/2

    with centre f_c and width b: the difference of two ideal low-passes (SincNet, arXiv 1808.00158, eq. 4 and 5),
    over its value at n = 0. Its gain in the band is f_s / 2b.
    """
    seconds = (np.arange(taps) - taps // 2) / SAMPLE_RATE
    centre, width = (low + high)[:, None] / 2, (high - low)[:, None]
    return jnp.cos(2 * np.pi * centre * seconds) * jnp.sinc(width * seconds) * np.hamming(taps)


@lru_cache
def mel_bank(bands: int, n_fft: int) -> np.ndarray:
    """Returns triangles of height 1 with corners evenly spaced in HTK mel from 0 to 8000 Hz: (n_fft / 2 + 1, bands).

    Equal to `librosa.filters.mel(htk=True, norm=None)` to the bit. librosa is not called here, because importing it
    takes 3 s of processor time, and 28 s the first time on a machine, which would delay every log-mel front-end.
    """
    corners = mel_to_hz(np.linspace(0, hz_to_mel(SAMPLE_RATE / 2), bands + 2))
    return triangles(np.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE), corners)


@lru_cache
def kaldi_mel_bank(bands: int, n_fft: int) -> np.ndarray:
    """Returns Kaldi's triangles of height 1 from 20 to 8000 Hz, linear in mel and not in Hz: (n_fft / 2 + 1, bands)."""
    corners = np.linspace(kaldi_mel(20), kaldi_mel(SAMPLE_RATE / 2), bands + 2)
    return triangles(kaldi_mel(np.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE)), corners)


def triangles(bins: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Returns triangular bands: bins (N,), corners (B + 2,) -> (N, B). Band i is 1 at corners[i + 1]."""
    rising = (bins[:, None] - corners[:-2]) / np.diff(corners)[:-1]
    falling = (corners[2:] - bins[:, None]) / np.diff(corners)[1:]
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


@lru_cache
def hann(size: int) -> np.ndarray:
    """Returns the periodic Hann window: (size,) float32."""
    return np.hanning(size + 1)[:-1].astype(np.float32)


@lru_cache
def fourier_basis(samples: int, n_fft: int) -> np.ndarray:
    """Returns real parts, then imaginary parts of the DFT of n_fft points: (samples, 2 (n_fft / 2 + 1)) float32."""
    turns = np.outer(np.arange(samples), np.arange(n_fft // 2 + 1)) % n_fft / n_fft  # exact, then rounded once
    return np.concatenate([np.cos(2 * np.pi * turns), -np.sin(2 * np.pi * turns)], 1).astype(np.float32)


@lru_cache
def dct_basis(bands: int, count: int) -> np.ndarray:
    """Returns the first `count` vectors of the orthonormal DCT-II: (bands, count) float32."""
    band, order = np.arange(bands)[:, None], np.arange(count)
    basis = np.cos(np.pi * order * (2 * band + 1) / (2 * bands)) * np.sqrt(2 / bands)
    basis[:, 0] /= np.sqrt(2)
    return basis.astype(np.float32)


def kaldi_mel(hz: Values) -> Values:
    """Kaldi's mel scale: HTK's with the natural logarithm and a rounded constant."""
    return 1127 * np.log(1 + hz / 700)


@lru_cache
def gammatone_bank(bands: int, n_fft: int, lowest: float = 500.0) -> np.ndarray:
    """Returns power responses of gammatone filters of order 4, 1 at their centres: (n_fft / 2 + 1, bands).

        |H(f)|² = (1 + ((f - f_c) / 1.019 ERB(f_c))²)^-4,  ERB(f) = 24.7 + f / 9.265

    Centres lie evenly on the ERB scale from `lowest` up, the last one step below 8000 Hz
    (Glasberg & Moore 1990; Slaney 1993).
    """
    scale = 24.7 * 9.265
    top, bottom = np.log(SAMPLE_RATE / 2 + scale), np.log(lowest + scale)
    centres = np.exp(np.linspace(bottom, top, bands, endpoint=False)) - scale
    width = 1.019 * (24.7 + centres / 9.265)
    bins = np.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE)[:, None]
    return ((1 + ((bins - centres) / width) ** 2) ** -4).astype(np.float32)


def hz_to_mel(hz: Values) -> Values:
    """HTK's scale."""
    return 2595 * np.log10(1 + hz / 700)


def mel_to_hz(mel: Values) -> Values:
    return 700 * (10 ** (mel / 2595) - 1)
