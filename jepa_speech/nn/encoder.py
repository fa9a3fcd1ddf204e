"""Our own encoder: front-end, projection, mask embedding, then blocks. Masked frames reach no other frame."""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.config import DEEPEST, check_sizes
from jepa_speech.errors import UsageError
from jepa_speech.features.grid import HOP, SAMPLE_RATE, WINDOW, frames
from jepa_speech.nn.blocks import ConformerBlock, ConvModule, TransformerBlock
from jepa_speech.nn.frontends import (
    SUBSAMPLED,
    ConvFrontend,
    LogMelFrontend,
    SubsampledFrontend,
    subsampled_frames,
    subsampled_hop,
    subsampled_window,
)
from jepa_speech.nn.layer_norm import LayerNorm
from jepa_speech.nn.linear import Linear
from jepa_speech.nn.masks import Fill, fill_masked, input_mask, mask_channels
from jepa_speech.nn.module import Encoded
from jepa_speech.nn.packing import pack, repeated
from jepa_speech.nn.row_random import dropout, fold, valid
from jepa_speech.nn.stack import through


@dataclass(frozen=True)
class EncoderConfig:
    """Config section `encoder`, names `conformer` and `transformer`."""

    name: Literal["conformer", "transformer"] = "conformer"  # kind of blocks
    # `conv`: the convolutions of wav2vec 2.0; `logmel`; `subsampled`: log-mel and two convolutions, 25 Hz, of w2v-BERT;
    # `subsampled50`: the same at twice the rate
    frontend: Literal["conv", "logmel", "subsampled", "subsampled50"] = "conv"
    channels: int = 512  # of the convolutions of `conv`, `subsampled` and `subsampled50`
    width: int = 512  # of the blocks
    blocks: int = 4  # number of blocks
    heads: int = 8  # attention heads of a block
    hidden: int = 2048  # units inside the feed-forward layers
    # frames of the depthwise convolution: in each conformer block, or once before the blocks of a transformer
    kernel: int = 31
    dropout: float = 0.1  # dropout probability
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the arithmetic; parameters stay float32
    scan: bool = False  # compile one block for all of them (nn/stack.py)
    remat: bool = False  # compute blocks again in the backward pass, to save memory (nn/stack.py)

    padding_exact = True

    @property
    def packs(self) -> bool:
        return self.name == "transformer"  # a conformer's convolutions read neighbours

    def __post_init__(self) -> None:
        check_sizes(self, "encoder", ("channels", "width", "heads", "hidden", "kernel"))
        check_sizes(self, "encoder", ("blocks",), DEEPEST)
        if self.width % (2 * self.heads):
            raise UsageError(
                f"config key encoder.width = {self.width}: must be a multiple of 2 * encoder.heads = {2 * self.heads}"
            )

    @property
    def frame_rate(self) -> float:
        return SAMPLE_RATE / (subsampled_hop(self.frontend) if self.frontend in SUBSAMPLED else HOP)

    @property
    def min_samples(self) -> int:
        return subsampled_window(self.frontend) if self.frontend in SUBSAMPLED else WINDOW

    @property
    def features(self) -> int:
        return {"conv": self.channels, "logmel": LogMelFrontend.width}.get(self.frontend, self.width)

    def frames(self, samples: Any) -> Any:
        """Frames of a wave: floor((S - 400) / 320) + 1, or as `subsampled_frames` has it."""
        return subsampled_frames(samples, self.frontend) if self.frontend in SUBSAMPLED else frames(samples)


def block(config: EncoderConfig, rngs: nnx.Rngs) -> nnx.Module:
    dtype = jnp.dtype(config.dtype)
    if config.name == "transformer":
        return TransformerBlock(config.width, config.heads, config.hidden, config.dropout, dtype, rngs)
    return ConformerBlock(config.width, config.heads, config.hidden, config.kernel, config.dropout, dtype, rngs)


class Encoder(nnx.Module):
    """fill: the value at masked frames, `learned`, `random`, `zero` or, of log-mel frames, `noise` (nn/masks.py)."""

    def __init__(self, config: EncoderConfig, fill: Fill, rngs: nnx.Rngs):
        dtype = jnp.dtype(config.dtype)
        self.rate, self.dtype, self.frames = config.dropout, dtype, config.frames
        self.scan, self.remat = config.scan, config.remat
        self.frontend: ConvFrontend | SubsampledFrontend | LogMelFrontend
        if config.frontend == "conv":
            self.frontend = ConvFrontend(config.channels, dtype, rngs)
        elif config.frontend in SUBSAMPLED:
            self.frontend = SubsampledFrontend(config.frontend, config.channels, config.width, dtype, rngs)
        else:
            self.frontend = LogMelFrontend()
        self.projection = Linear(config.features, config.width, dtype=dtype, rngs=rngs)
        self.fill = fill
        learned = fill == "learned"
        self.mask_embedding = nnx.Param(jax.random.uniform(rngs.params(), (config.width,))) if learned else None
        # A transformer gets its neighbourhood from a convolution, as wav2vec 2.0 does, but after a gate: a conformer's.
        local = config.name == "transformer"
        self.local = ConvModule(config.width, config.kernel, dtype, rngs) if local else None
        self.blocks = nnx.List([block(config, rngs) for _ in range(config.blocks)])
        self.norm = LayerNorm(config.width, dtype, rngs)

    def __call__(
        self,
        wave: jax.Array,
        lengths: jax.Array,
        mask: jax.Array | None = None,
        keys: jax.Array | None = None,
        channels: jax.Array | None = None,
        packed: int | None = None,
    ) -> Encoded:
        """wave (B, S) standardised, lengths (B,) samples, mask (B, T) True where masked, keys (B,) or None,
        channels (B, D) True where a feature of the projection is masked in all frames,
        packed: as in PureEncoder; mask and keys may have M rows for each wave.

        The last layer is normalised.
        """
        frame_lengths, rows = self.frames(lengths), (wave if mask is None else mask).shape[0]
        inside = repeated(valid(frame_lengths, self.frames(wave.shape[1])), rows)  # (B, T)
        visible = inside if mask is None else inside & ~mask
        draws = fold(keys, len(self.blocks) + 1)
        if self.fill == "noise" and mask is not None:
            features, energy = self.noisy_features(wave, visible, mask, repeated(frame_lengths, rows), draws)
        else:
            features, energy = self.frontend(wave, visible)
        x = repeated(self.projection(features.astype(self.dtype)), rows)  # (B, T, D)
        x = dropout(x, self.rate, fold(keys, 0))
        if self.fill != "noise":
            x = fill_masked(x, mask, self.fill, self.mask_embedding, draws)
        x = mask_channels(x, channels)
        if self.local is not None:
            x = x + self.local(x, inside)
        packing = pack(inside, mask, packed)
        read, positions = packing.inside, packing.positions
        layers, ffs = through(
            self.blocks,
            packing.gather(x),
            lambda block, x, i: block(x, read, fold(keys, i + 1), positions),
            self.scan,
            self.remat,
        )
        layers[-1] = self.norm(layers[-1])
        layers, ffs = ([packing.scatter(x) for x in part] for part in (layers, ffs))
        frame_lengths, features, energy = (repeated(part, rows) for part in (frame_lengths, features, energy))
        return Encoded(layers[-1], layers, frame_lengths, features, energy, ffs)

    def noisy_features(
        self, wave: jax.Array, visible: jax.Array, mask: jax.Array, frame_lengths: jax.Array, keys: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """The front-end's features (B, T, C) and energy (B, T), with noise for the log-mel frames of masked frames."""
        frontend = self.frontend
        assert not isinstance(frontend, ConvFrontend)  # build_encoder refuses it

        def fill(x: jax.Array) -> jax.Array:
            x = repeated(x, len(mask))
            return fill_masked(x, input_mask(mask, frame_lengths, x.shape[1], frontend.per_frame), "noise", None, keys)

        return frontend(wave, visible, fill)
