"""From the standardised waveform to frames on the grid: frame t sees samples [320t, 320t + 400)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.features.grid import HOP, WINDOW, frames
from jepa_speech.features.kaldi import BANDS, filter_bank
from jepa_speech.features.spectral import log_mel
from jepa_speech.nn.conv_stack import EPSILON, convolutions, convolve
from jepa_speech.nn.layer_norm import LayerNorm
from jepa_speech.nn.linear import Linear
from jepa_speech.nn.packing import repeated
from jepa_speech.nn.row_random import valid

# Names of the subsampled front-ends -> log-mel frames in 20 ms. A frame is four of them further than the one before and
# sees seven: at 25 Hz the samples [640t, 640t + 1360), at 50 Hz [320t, 320t + 880).
SUBSAMPLED = {"subsampled": 2, "subsampled50": 4}
# Frame t of w2v-BERT 2.0's front-end sees the samples [320t, 320t + 560): two frames of 400 samples, 160 apart.
STACKED_WINDOW = 560

# Of log-mel values of read speech at level 1, all bands together (LibriSpeech, 60 clips): constants.
LOG_MEL_MEAN, LOG_MEL_DEVIATION = 0.83, 3.77

FillFrames = Callable[[jax.Array], jax.Array]  # replaces masked log-mel frames: (B, T, 80) -> same


def nothing_masked(x: jax.Array) -> jax.Array:
    return x


class ConvFrontend(nnx.Module):
    """wav2vec 2.0's convolutions with layer normalisation over channels after each (its Large variant).

    No statistic runs over time, so neither padding nor hidden samples reach other frames.
    """

    def __init__(self, channels: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        norm = partial(LayerNorm, channels, dtype, rngs)
        self.convolutions, self.norms = convolutions(channels, True, norm, dtype, rngs)
        self.final_norm = norm()

    def __call__(self, wave: jax.Array, visible: jax.Array) -> tuple[jax.Array, jax.Array]:
        """wave (B, S) -> features (B, T, channels), and the energy (B, T) that they had before the last norm."""
        x = convolve(wave, None, self.convolutions, self.norms)
        return self.final_norm(x), jnp.square(x.astype(jnp.float32)).mean(-1)


class LogMelFrontend(nnx.Module):
    """Log-mel frames less their mean vector: cheap, and on the same grid as the convolutions.

    The mean (voice, microphone and room, mostly) is taken over visible frames, so that neither padding nor
    masked frames reach other frames through it.
    """

    width = 80
    per_frame = 1  # log-mel frames from the start of one frame to that of the next

    def __call__(
        self, wave: jax.Array, visible: jax.Array, fill: FillFrames = nothing_masked
    ) -> tuple[jax.Array, jax.Array]:
        """wave (B, S), visible (B, T) -> features (B, T, 80), and their energy (B, T).

        visible may have M rows for each wave; features and energy have as many as visible.
        """
        x, weight = repeated(log_mel(wave), visible.shape[0]), visible[..., None]
        mean = (x * weight).sum(1, keepdims=True) / jnp.maximum(weight.sum(1, keepdims=True), 1)
        x = fill((x - mean) / LOG_MEL_DEVIATION)
        return x, jnp.square(x).mean(-1)


class SubsampledFrontend(nnx.Module):
    """w2v-BERT's (arXiv 2108.06209, section 3.1): log-mel at 100 Hz, two 3 x 3 convolutions of stride 2, linear: 25 Hz.

    `subsampled50` has twice these rates, those of GLaS-JEPA (arXiv 2609.37798). Nothing is padded in time, so no frame
    sees more than its own samples.
    """

    per_frame = 4  # log-mel frames from the start of one frame to that of the next

    def __init__(self, name: str, channels: int, width: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.grids, self.dtype = SUBSAMPLED[name], dtype
        shared: dict[str, Any] = {"strides": 2, "padding": ((0, 0), (1, 1)), "dtype": dtype, "rngs": rngs}
        he = nnx.initializers.he_normal()
        self.first = nnx.Conv(1, channels, (3, 3), kernel_init=he, **shared)
        self.second = nnx.Conv(channels, channels, (3, 3), kernel_init=he, **shared)
        self.linear = Linear(channels * 20, width, dtype=dtype, rngs=rngs)
        self.norm = LayerNorm(width, dtype, rngs)

    def __call__(
        self, wave: jax.Array, visible: jax.Array, fill: FillFrames = nothing_masked
    ) -> tuple[jax.Array, jax.Array]:
        """wave (B, S) -> features (B, T, width), and the energy (B, T) that they had before the norm."""
        x = fill((dense_log_mel(wave, self.grids) - LOG_MEL_MEAN) / LOG_MEL_DEVIATION)  # (B, 4T + 3 or more, 80)
        x = x.astype(self.dtype)[..., None]
        x = jax.nn.relu(self.second(jax.nn.relu(self.first(x))))  # (B, T, 20, channels)
        x = self.linear(x.reshape(*x.shape[:2], -1))
        return self.norm(x), jnp.square(x.astype(jnp.float32)).mean(-1)


class FilterBankFrontend(nnx.Module):
    """w2v-BERT 2.0's: Kaldi's filter bank at 100 Hz (features/kaldi.py), bands at mean 0 and deviation 1, two frames
    side by side, layer norm: 50 Hz.

    Means and deviations are taken over visible frames, so that neither padding nor masked frames reach other frames
    through them. The extractor of the released model takes them over all frames; without a mask both are the same.
    """

    def __init__(self, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.dtype = dtype
        self.final_norm = LayerNorm(2 * BANDS, dtype, rngs, EPSILON)

    def __call__(self, wave: jax.Array, lengths: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """wave (B, S), lengths (B,) samples, mask (B, T) True where masked, or None -> features (B, T, 160), and the
        energy (B, T) that they had before the layer norm.
        """
        half = HOP // 2
        even, odd = filter_bank(wave), filter_bank(wave[:, half:])  # (B, T or T + 1, 80), (B, T, 80)
        unpaired = even.shape[1] - odd.shape[1]  # 0 or 1; it has no partner to be stacked with, but counts below
        seen = [valid(frames(lengths), even.shape[1]), valid(frames(lengths - half), odd.shape[1])]
        if mask is not None:
            seen = [seen[0] & ~jnp.pad(mask, ((0, 0), (0, unpaired))), seen[1] & ~mask]
        weight = jnp.concatenate(seen, 1)[..., None]
        x = jnp.concatenate([even, odd], 1)
        count = weight.sum(1, keepdims=True)
        x = x - (x * weight).sum(1, keepdims=True) / jnp.maximum(count, 1)
        variance = (jnp.square(x) * weight).sum(1, keepdims=True) / jnp.maximum(count - 1, 1)
        x = x * jax.lax.rsqrt(variance + 1e-7)
        x = jnp.concatenate([x[:, : odd.shape[1]], x[:, even.shape[1] :]], -1)
        return self.final_norm(x.astype(self.dtype)), jnp.square(x).mean(-1)


def stacked_frames(samples: Any) -> Any:
    """Frames of w2v-BERT 2.0's front-end: floor((S - 560) / 320) + 1, and none below 560."""
    return ((samples - STACKED_WINDOW) // HOP + 1) * (samples >= STACKED_WINDOW)


def subsampled_hop(name: str) -> int:
    """Samples from one frame of a subsampled front-end to the next."""
    return 4 * HOP // SUBSAMPLED[name]


def subsampled_window(name: str) -> int:
    """Samples that a frame of a subsampled front-end sees."""
    return WINDOW + 6 * HOP // SUBSAMPLED[name]


def subsampled_frames(samples: Any, name: str) -> Any:
    """Frames of a subsampled front-end: floor((S - window) / hop) + 1, and none below its window."""
    window = subsampled_window(name)
    return ((samples - window) // subsampled_hop(name) + 1) * (samples >= window)


def dense_log_mel(wave: jax.Array, grids: int) -> jax.Array:
    """Log-mel at `grids` times 50 Hz: as many grids of 20 ms, each a part of it later, interleaved.

    (B, S) -> (B, T, 80).
    """
    parts = [log_mel(wave[:, i * HOP // grids :]) for i in range(grids)]
    longest = parts[0].shape[1]
    padded = [jnp.pad(part, ((0, 0), (0, longest - part.shape[1]), (0, 0))) for part in parts]  # each 0 or 1 short
    count = sum(part.shape[1] for part in parts)
    return jnp.stack(padded, 2).reshape(wave.shape[0], -1, parts[0].shape[-1])[:, :count]
