"""SincNet's layer: a filter bank over the waveform of which only the bands' edges are learned (arXiv 1808.00158)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jepa_speech.features.filters import band_pass, hz_to_mel, mel_to_hz
from jepa_speech.features.grid import SAMPLE_RATE

MIN_LOW, MIN_BAND = 50.0, 50.0  # Hz
FIRST = 30.0  # Hz, the lower edge of the first band at the start, before MIN_LOW is added


class SincFilters(nnx.Module):
    """Band-pass filters from |low| + 50 to |low| + |band| + 100 Hz, at most 8000. Kernels as PASE scales them: peak 1.

    At the start the bands lie side by side on the mel scale. Edges are kept in Hz, as published, so that at common
    learning rates they move little.
    """

    def __init__(self, filters: int, taps: int):
        self.taps = taps
        last = SAMPLE_RATE / 2 - (MIN_LOW + MIN_BAND)
        edges = mel_to_hz(np.linspace(hz_to_mel(FIRST), hz_to_mel(last), filters + 1))
        self.low = nnx.Param(jnp.asarray(edges[:-1], jnp.float32))
        self.band = nnx.Param(jnp.asarray(np.diff(edges), jnp.float32))

    def kernel(self) -> jax.Array:
        """(filters, taps) float32."""
        low = MIN_LOW + jnp.abs(self.low[...])
        high = jnp.minimum(low + MIN_BAND + jnp.abs(self.band[...]), SAMPLE_RATE / 2)
        return band_pass(low, high, self.taps)

    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, S, 1) -> (B, S - taps + 1, filters): nothing is padded."""
        kernel = self.kernel().T[:, None].astype(x.dtype)  # (taps, 1, filters)
        return jax.lax.conv_general_dilated(x, kernel, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"))
