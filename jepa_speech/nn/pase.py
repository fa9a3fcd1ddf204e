"""PASE's encoder (arXiv 1904.03416) and PASE+'s (arXiv 2001.09239): sinc filters, seven convolutions, 100 frames/s.

Every block is a convolution, batch normalisation and a PReLU with a slope per channel. PASE ends with a linear map;
PASE+ with a QRNN and a linear map, to which linear maps of all earlier blocks are added, averaged down to 100 Hz.

A row has floor(S / 160) frames, its samples beyond the last whole one are not used, and convolutions reflect each row
at its own end: so a row gives what it would give alone, as far as batch normalisation allows (see `batch_norm.py`).
The convolutions have no bias, which the normalisation behind them would take away again.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.config import LARGEST, check_sizes
from jepa_speech.errors import UsageError
from jepa_speech.features.centred import HOP
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.nn.batch_norm import BatchNorm, Running, Sums
from jepa_speech.nn.linear import Linear
from jepa_speech.nn.qrnn import QRNN
from jepa_speech.nn.row_random import valid
from jepa_speech.nn.sinc import SincFilters

KERNELS, STRIDES = (251, 20, 11, 11, 11, 11, 11, 11), (1, 10, 2, 1, 2, 1, 2, 2)
RATES = tuple(HOP // math.prod(STRIDES[: i + 1]) for i in range(len(STRIDES)))  # steps per frame after each block


@dataclass(frozen=True)
class PaseEncoderConfig:
    """Config section `encoder`, name `pase`."""

    name: Literal["pase"] = "pase"  # chooses this encoder
    maps: tuple[int, ...] = (64, 64, 128, 128, 256, 256, 512, 512)  # of the sinc filters and of the seven convolutions
    embedding: int = 100  # width of the output
    recurrent: int = 0  # units of the QRNN (PASE+); 0: none
    dense: bool = False  # whether the earlier blocks are added to the output (PASE+)
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the arithmetic; parameters and statistics stay float32

    frame_rate = SAMPLE_RATE / HOP
    min_samples = 3 * HOP  # less could not be reflected before the last convolution

    def __post_init__(self) -> None:
        check_sizes(self, "encoder", ("maps", "embedding"))
        if not 0 <= self.recurrent <= LARGEST:
            raise UsageError(f"config key encoder.recurrent = {self.recurrent}: expected 0 to {LARGEST:,}")
        if len(self.maps) != len(KERNELS):
            raise UsageError(f"config key encoder.maps = {self.maps}: {len(KERNELS)} numbers needed, one per block")

    def frames(self, samples: Any) -> Any:
        """Frames of a wave: floor(S / 160)."""
        return samples // HOP

    @property
    def norm_widths(self) -> tuple[int, ...]:
        """Channels of each batch normalisation, in the order of their statistics."""
        return (*self.maps, self.embedding)


class Embedded(NamedTuple):
    z: jax.Array  # (B, T, embedding)
    frame_lengths: jax.Array  # (B,)
    sums: list[Sums]  # the batch's statistics at each normalisation


class PaseEncoder(nnx.Module):
    def __init__(self, config: PaseEncoderConfig, rngs: nnx.Rngs):
        self.dtype = dtype = jnp.dtype(config.dtype)
        self.filters = SincFilters(config.maps[0], KERNELS[0])
        self.convolutions = nnx.List(
            nnx.Conv(
                *(width, maps, kernel),
                strides=stride,
                padding="VALID",
                use_bias=False,
                dtype=dtype,
                rngs=rngs,
            )
            for width, maps, kernel, stride in zip(
                config.maps[:-1], config.maps[1:], KERNELS[1:], STRIDES[1:], strict=True
            )
        )
        self.norms = nnx.List(BatchNorm(width) for width in config.maps)
        self.activations = nnx.List(PReLU(width, 0.0) for width in config.maps)
        width = config.recurrent or config.maps[-1]
        self.recurrent = QRNN(config.maps[-1], config.recurrent, dtype, rngs) if config.recurrent else None
        self.out = Linear(width, config.embedding, dtype=dtype, rngs=rngs)
        self.skips = nnx.List(
            Linear(width, config.embedding, use_bias=False, dtype=dtype, rngs=rngs)
            for width in (config.maps[:-1] if config.dense else ())
        )
        self.norm = BatchNorm(config.embedding, affine=False)

    def __call__(
        self,
        wave: jax.Array,
        lengths: jax.Array,
        weight: jax.Array | None = None,
        running: list[Running] | None = None,
    ) -> Embedded:
        """wave (B, S) standardised, at least 480 samples; lengths (B,).

        With `running`, one for each of `norm_widths`, those statistics normalise; without, the batch's own, over
        valid frames of rows by their `weight` (B,), or of all rows.
        """
        frames, frame_lengths = wave.shape[1] // HOP, lengths // HOP
        row_weight = jnp.ones(wave.shape[0]) if weight is None else weight
        x = wave[:, : frames * HOP, None].astype(self.dtype)  # (B, S, 1)
        layers, sums, rate = (self.filters, *self.convolutions), [], HOP
        outputs = []
        for i, layer in enumerate(layers):
            left, right = padding(KERNELS[i], STRIDES[i])
            x = layer(reflect(x, frame_lengths * rate, left, right))
            rate = RATES[i]
            inside = valid(frame_lengths * rate, frames * rate) * row_weight[:, None]
            x, batch = self.norms[i](x, inside, running[i] if running else None)
            x = self.activations[i](x)  # (B, frames * rate, maps)
            sums.append(batch)
            outputs.append(x)
        z = self.out(x if self.recurrent is None else self.recurrent(x))  # (B, T, embedding)
        for skip, output, rate in zip(self.skips, outputs, RATES, strict=False):  # none of the last block
            z = z + skip(output.reshape(*z.shape[:2], rate, -1).mean(2))  # averaged first: the same, and cheaper
        z, batch = self.norm(z, inside, running[-1] if running else None)
        return Embedded(z, frame_lengths, [*sums, batch])


class PReLU(nnx.Module):
    """max(x, 0) + slope · min(x, 0), a slope per channel."""

    def __init__(self, width: int, slope: float = 0.25):
        self.slope = nnx.Param(jnp.full(width, slope, jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.where(x > 0, x, self.slope[...].astype(x.dtype) * x)


def padding(kernel: int, stride: int) -> tuple[int, int]:
    """Frames added before and behind, so that a convolution gives 1 / stride as many as it gets."""
    uneven = stride > 1 or kernel % 2 == 0
    return kernel // 2 - uneven, kernel // 2


def reflect(x: jax.Array, lengths: jax.Array, left: int, right: int) -> jax.Array:
    """x (B, T, C) mirrored around its first frame and, row by row, around the last valid one: (B, left + T + right, C).

    Frames further behind are of no use to any row. Rows shorter than `right` repeat their first frame.
    """
    source = jnp.maximum(lengths[:, None] - 2 - jnp.arange(right), 0)  # (B, right)
    tail = jnp.take_along_axis(x, source[..., None], axis=1)
    room = jnp.pad(x, ((0, 0), (0, right), (0, 0)))
    whole = jnp.concatenate([x[:, left:0:-1], room], axis=1)
    return jax.vmap(lambda row, end, start: jax.lax.dynamic_update_slice_in_dim(row, end, start, 0))(
        whole, tail, left + lengths
    )
