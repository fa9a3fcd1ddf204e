"""From the standardised waveform to frames on the grid: frame t sees samples [320t, 320t + 400)."""

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.features.spectral import log_mel

# Kernel and stride of the seven convolutions of wav2vec 2.0 (arXiv 2006.11477, section 4.2): stride 320, field 400.
CONVOLUTIONS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))

# Deviation of log-mel values of read speech at level 1, all bands together (LibriSpeech, 60 clips): a constant.
LOG_MEL_DEVIATION = 3.77


class ConvFrontend(nnx.Module):
    """wav2vec 2.0's convolutions with layer normalisation over channels after each (its Large variant).

    No statistic runs over time, so neither padding nor hidden samples reach other frames.
    """

    def __init__(self, channels: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.width = channels
        self.convolutions, self.norms = nnx.List(), nnx.List()
        for i, (kernel, stride) in enumerate(CONVOLUTIONS):
            self.convolutions.append(
                nnx.Conv(
                    1 if i == 0 else channels,
                    channels,
                    kernel,
                    strides=stride,
                    padding="VALID",
                    kernel_init=nnx.initializers.he_normal(),
                    dtype=dtype,
                    rngs=rngs,
                )
            )
            self.norms.append(nnx.LayerNorm(channels, dtype=dtype, use_fast_variance=False, rngs=rngs))
        self.final_norm = nnx.LayerNorm(channels, dtype=dtype, use_fast_variance=False, rngs=rngs)

    def __call__(self, wave: jax.Array, visible: jax.Array) -> tuple[jax.Array, jax.Array]:
        """wave (B, S) -> features (B, T, channels), and the energy (B, T) that they had before the last norm."""
        x = wave[..., None]  # (B, S, 1)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = jax.nn.gelu(norm(convolution(x)), approximate=False)
        return self.final_norm(x), jnp.square(x.astype(jnp.float32)).mean(-1)


class LogMelFrontend(nnx.Module):
    """Log-mel frames less their mean vector: cheap, and on the same grid as the convolutions.

    The mean (voice, microphone and room, mostly) is taken over visible frames, so that neither padding nor what is
    hidden reaches other frames through it.
    """

    width = 80

    def __call__(self, wave: jax.Array, visible: jax.Array) -> tuple[jax.Array, jax.Array]:
        """wave (B, S), visible (B, T) -> features (B, T, 80), and their energy (B, T)."""
        x, weight = log_mel(wave), visible[..., None]
        mean = (x * weight).sum(1, keepdims=True) / jnp.maximum(weight.sum(1, keepdims=True), 1)
        x = (x - mean) / LOG_MEL_DEVIATION
        return x, jnp.square(x).mean(-1)
