"""The grid of PASE's targets: 100 frames a second, frame t centred on sample 160 t, floor(S / 160) frames.

Both ends are padded with silence, so a row that is padded with silence in a batch has the same frames as alone.
"""

import jax
import jax.numpy as jnp

from jepa_speech.features.filters import hann

HOP = 160


def windows(audio: jax.Array, size: int) -> jax.Array:
    """Returns overlapping windows: (…, S) -> (…, T, size), frame t from sample 160 t - size / 2.

    They are put together from shifted blocks, because a gather of overlapping windows is slow on accelerators.
    """
    count, blocks = audio.shape[-1] // HOP, -(-size // HOP)
    total = (count - 1 + blocks) * HOP
    padded = jnp.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(size // 2, max(0, total - size // 2 - audio.shape[-1]))])
    rows = padded[..., :total].reshape(*audio.shape[:-1], -1, HOP)
    return jnp.concatenate([rows[..., i : i + count, :] for i in range(blocks)], -1)[..., :size]


def power_spectrum(audio: jax.Array, window: int, n_fft: int) -> jax.Array:
    """Returns |FFT|² under a periodic Hann window of `window` samples: (…, S) -> (…, T, n_fft / 2 + 1) float32."""
    spectrum = jnp.fft.rfft(windows(audio.astype(jnp.float32), window) * hann(window), n_fft)
    return jnp.square(spectrum.real) + jnp.square(spectrum.imag)
