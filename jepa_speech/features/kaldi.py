"""Kaldi's log-mel filter bank, as the feature extractor of w2v-BERT 2.0 computes it (transformers'
SeamlessM4TFeatureExtractor), in float32.

Steps for each frame of 400 samples: subtraction of its mean, pre-emphasis of 0.97, Povey's window (Hann to the power
0.85), |rfft|² of 512 points, 80 triangular filters, log(max(x, 2⁻²³)). The extractor computes in float64, so bands far
below the strongest band of a frame differ by the rounding error of the float32 FFT.
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.features.filters import kaldi_mel_bank
from jepa_speech.features.grid import WINDOW
from jepa_speech.features.spectral import power_spectrum, windows

BANDS = 80
# Root mean square of a recording at level 1 in 16-bit units, typical of read speech. The level only matters in digital
# silence, where a band is below the floor: elsewhere the normalisation of each band removes it.
LEVEL = 2000.0

_N_FFT, _PREEMPHASIS, _FLOOR = 512, 0.97, 2.0**-23
_HIGHEST = jax.lax.Precision.HIGHEST


def filter_bank(audio: jax.Array) -> jax.Array:
    """Returns natural logarithms of the bands, on the frame grid: standardised audio (…, S) -> (…, T, 80)."""
    x = windows(audio.astype(jnp.float32)) * LEVEL  # (…, T, 400)
    x = x - x.mean(-1, keepdims=True)
    before = jnp.concatenate([x[..., :1], x[..., :-1]], -1)  # the first sample is its own predecessor
    power = power_spectrum((x - _PREEMPHASIS * before) * _povey(), _N_FFT)  # (…, T, 257)
    return jnp.log(jnp.maximum(jnp.matmul(power, kaldi_mel_bank(BANDS, _N_FFT), precision=_HIGHEST), _FLOOR))


@lru_cache
def _povey() -> np.ndarray:
    return (np.hanning(WINDOW) ** 0.85).astype(np.float32)
