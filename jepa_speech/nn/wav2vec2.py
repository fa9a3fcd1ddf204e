"""The published encoder of wav2vec 2.0, HuBERT, WavLM, UniSpeech-SAT, data2vec and DinoSR, configured by one section.

Waves → convolutions → projection → mask embedding → positions → transformer blocks. `nn/encoder.py` is this project's
own. This one exists to train the papers' models and to read their checkpoints.
"""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.config import DEEPEST, check_sizes
from jepa_speech.errors import UsageError
from jepa_speech.features.grid import HOP, SAMPLE_RATE, WINDOW, frames
from jepa_speech.nn.alibi import Alibi
from jepa_speech.nn.conv_features import ConvFeatures
from jepa_speech.nn.conv_positions import ConvPositions, ScaledPositions, StackedPositions, uniform_init
from jepa_speech.nn.frontends import LogMelFrontend
from jepa_speech.nn.layer_norm import LayerNorm
from jepa_speech.nn.linear import Linear
from jepa_speech.nn.masks import Fill, fill_masked, mask_channels
from jepa_speech.nn.module import Encoded
from jepa_speech.nn.packing import pack, repeated
from jepa_speech.nn.relative_bias import RelativeBias
from jepa_speech.nn.row_random import dropout, fold, valid
from jepa_speech.nn.stack import through
from jepa_speech.nn.wav2vec2_blocks import Block, BlockSizes

INPUT, FEATURES, POSITIONS, FILL, LAYERDROP, BLOCKS = range(6)  # one use of a row's key each

SIZES = (
    "channels",
    "width",
    "heads",
    "hidden",
    "position_kernel",
    "position_groups",
    "relative_buckets",
    "relative_distance",
)


@dataclass(frozen=True)
class Wav2Vec2Config:
    """Config section `encoder`, name `wav2vec2`. The defaults are wav2vec 2.0's and HuBERT's Base."""

    name: Literal["wav2vec2"] = "wav2vec2"  # chooses this encoder
    # `conv`: the published one; `logmel`: log-mel frames, which cost next to nothing
    frontend: Literal["conv", "logmel"] = "conv"
    # of the convolutions: `group` (Base) or `layer` (Large, data2vec) [fairseq: extractor_mode, default or layer_norm]
    norm: Literal["group", "layer"] = "group"
    conv_bias: bool = False  # whether the convolutions have biases (Large) [fairseq: conv_bias]
    # of waves before the convolutions: `unit`: mean 0 and deviation 1 over a recording; `own`: as recorded (models of
    # transformers with `do_normalize` = false, such as WavLM Base) [fairseq: task.normalize, true or false]
    level: Literal["unit", "own"] = "unit"
    feature_norm: bool = True  # a layer norm between convolutions and projection (not in DistilHuBERT)
    channels: int = 512  # of the convolutions [fairseq: conv_feature_layers]
    width: int = 768  # of the blocks [fairseq: encoder_embed_dim]
    blocks: int = 12  # number of blocks [fairseq: encoder_layers]
    heads: int = 12  # attention heads of a block [fairseq: encoder_attention_heads]
    hidden: int = 3072  # units inside the feed-forward layers [fairseq: encoder_ffn_embed_dim]
    # layer norms before attention and feed-forward (Large), not after them (Base) [fairseq: layer_norm_first]
    pre_norm: bool = False
    adapter: int = 0  # width inside the adapters that MMS has after each block; 0: no adapters
    # of all layer norms, except between convolutions, in stacked positions and in adapters, which have 1e-5
    epsilon: float = 1e-5
    # `conv`: one weight-normalised convolution; `scaled`: HuBERT with `conv_pos_batch_norm`; `stacked`: data2vec
    positions: Literal["conv", "scaled", "stacked"] = "conv"
    # frames of the positional convolution, or of all stacked ones together [fairseq: conv_pos]
    position_kernel: int = 128
    position_groups: int = 16  # groups of the positional convolution [fairseq: conv_pos_groups]
    position_depth: int = 5  # number of stacked positional convolutions [fairseq: pos_conv_depth]
    # WavLM's gated relative position bias, on top of `positions` [WavLM: relative_position_embedding, gru_rel_pos]
    relative_bias: bool = False
    relative_buckets: int = 320  # of the relative position bias [WavLM: num_buckets]
    relative_distance: int = 800  # frames from which all offsets share the last bucket [WavLM: max_distance]
    # data2vec 2.0's distance penalty, with a learned scale per head, on top of `positions`
    # [data2vec 2.0: use_alibi_encoder, learned_alibi_scale_per_head]
    alibi: bool = False
    dropout: float = 0.1  # of what blocks add, and after the positions [fairseq: dropout]
    attention_dropout: float = 0.1  # of attention weights [fairseq: attention_dropout]
    activation_dropout: float = 0.0  # inside the feed-forward layers [fairseq: activation_dropout]
    input_dropout: float = 0.1  # after the projection [fairseq: dropout_input]
    feature_dropout: float = 0.1  # of the features that wav2vec 2.0 quantises [fairseq: dropout_features]
    layerdrop: float = 0.05  # probability that a row skips a block [fairseq: encoder_layerdrop]
    gradient_scale: float = 0.1  # factor of the gradient into the convolutions [fairseq: feature_grad_mult]
    # of the arithmetic; parameters stay float32 [fairseq: fp16, bf16]
    dtype: Literal["float32", "bfloat16"] = "float32"
    scan: bool = False  # compile one block for all of them (nn/stack.py)
    # compute blocks again in the backward pass, to save memory (nn/stack.py) [fairseq: checkpoint_activations]
    remat: bool = False

    frame_rate = SAMPLE_RATE / HOP
    min_samples = WINDOW
    padding_exact = True

    def __post_init__(self) -> None:
        check_sizes(self, "encoder", SIZES)
        check_sizes(self, "encoder", ("blocks", "position_depth"), DEEPEST)
        if self.epsilon <= 0:
            raise UsageError(f"config key encoder.epsilon = {self.epsilon}: must be above 0")
        for key in ("heads", "position_groups"):
            if self.width % getattr(self, key):
                raise UsageError(
                    f"config key encoder.width = {self.width}: must be a multiple of encoder.{key} = "
                    f"{getattr(self, key)}"
                )
        if self.level == "own" and self.frontend != "conv":
            raise UsageError(
                f"config key encoder.level = own: encoder.frontend = {self.frontend} needs encoder.level = unit"
            )
        if self.adapter:
            check_sizes(self, "encoder", ("adapter",))
        if self.relative_buckets % 4 or self.relative_distance <= self.relative_buckets // 4:
            raise UsageError(
                f"config key encoder.relative_buckets = {self.relative_buckets}: must be a multiple of 4, and less "
                f"than 4 * encoder.relative_distance = {4 * self.relative_distance}"
            )

    @property
    def packs(self) -> bool:
        return not self.relative_bias  # its table is for all frames

    @property
    def features(self) -> int:
        """Channels of `Encoded.features`."""
        return self.channels if self.frontend == "conv" else LogMelFrontend.width

    def frames(self, samples: Any) -> Any:
        """Frames of a wave: floor((S - 400) / 320) + 1."""
        return frames(samples)

    def block_sizes(self) -> BlockSizes:
        return BlockSizes(
            width=self.width,
            heads=self.heads,
            hidden=self.hidden,
            pre_norm=self.pre_norm,
            adapter=self.adapter,
            gated=self.relative_bias,
            epsilon=self.epsilon,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            activation_dropout=self.activation_dropout,
            dtype=jnp.dtype(self.dtype),
        )


def positions(config: Wav2Vec2Config, rngs: nnx.Rngs) -> nnx.Module:
    sizes = (config.width, config.position_kernel, config.position_groups)
    if config.positions == "stacked":
        return StackedPositions(*sizes, config.position_depth, rngs)
    return (ConvPositions if config.positions == "conv" else ScaledPositions)(*sizes, rngs)


class Wav2Vec2Encoder(nnx.Module):
    """fill: the value at masked frames, `learned`, `random` or `zero` (nn/masks.py).

    With layerdrop, each row skips blocks by its own key, so the result does not depend on other rows or on devices. The
    papers' code draws once for the whole batch. That saves time; here a skipped block is computed and not used.
    """

    def __init__(self, config: Wav2Vec2Config, fill: Fill, rngs: nnx.Rngs):
        dtype = jnp.dtype(config.dtype)
        self.config = config
        self.frontend: ConvFeatures | LogMelFrontend
        if config.frontend == "conv":
            epsilon = config.epsilon if config.feature_norm else None
            options = (config.norm, config.conv_bias, config.gradient_scale, epsilon)
            self.frontend = ConvFeatures(config.channels, *options, dtype, rngs)
        else:
            self.frontend = LogMelFrontend()
        self.projection = Linear(config.features, config.width, kernel_init=uniform_init, dtype=dtype, rngs=rngs)
        self.fill = fill
        learned = fill == "learned"
        self.mask_embedding = nnx.Param(jax.random.uniform(rngs.params(), (config.width,))) if learned else None
        self.positions = positions(config, rngs)
        biased = config.relative_bias
        self.relative_bias = (
            RelativeBias(config.heads, config.relative_buckets, config.relative_distance, rngs) if biased else None
        )
        self.alibi = Alibi(config.heads) if config.alibi else None
        sizes = config.block_sizes()
        self.blocks = nnx.List([Block(sizes, rngs) for _ in range(config.blocks)])
        # Of the last block's output, or of the first block's input.
        self.norm = LayerNorm(config.width, dtype, rngs, config.epsilon)

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

        layers[0] is the first block's input with positions (and normalised where the blocks are post-norm), as
        transformers' hidden_states[0]; the last layer is the output.
        """
        config = self.config
        frame_lengths, rows = frames(lengths), (wave if mask is None else mask).shape[0]
        inside = repeated(valid(frame_lengths, frames(wave.shape[1])), rows)  # (B, T)
        if config.frontend == "conv":
            features, energy = self.frontend(wave, lengths)  # (B, T, C), (B, T)
        else:
            features, energy = self.frontend(wave, inside if mask is None else inside & ~mask)
        x = repeated(self.projection(features), rows)  # (B, T, D)
        x = dropout(x, config.input_dropout, fold(keys, INPUT))
        x = mask_channels(fill_masked(x, mask, self.fill, self.mask_embedding, fold(keys, FILL)), channels)
        x = x + self.positions(x, inside)
        if not config.pre_norm:
            x = self.norm(x)
        x = dropout(x, config.dropout, fold(keys, POSITIONS))

        packing = pack(inside, mask, packed)
        bias = self.relative_bias(x.shape[1]) if self.relative_bias is not None else None  # (H, T, T)
        added = self.alibi(packing.positions) if self.alibi is not None else None  # (B, H, P, P)
        skip = skipped(fold(keys, LAYERDROP), len(self.blocks), config.layerdrop)

        def step(block: Block, x: jax.Array, i: int | jax.Array) -> tuple[jax.Array, jax.Array]:
            out, ff = block(x, packing.inside, bias, fold(keys, BLOCKS + i), added)
            return out if skip is None else jnp.where(skip[:, i, None, None], x, out), ff

        layers, ffs = through(self.blocks, packing.gather(x), step, config.scan, config.remat)
        if config.pre_norm:
            layers[-1] = self.norm(layers[-1])
        layers, ffs = ([packing.scatter(x) for x in part] for part in (layers, ffs))
        frame_lengths, features, energy = (repeated(part, rows) for part in (frame_lengths, features, energy))
        features = dropout(features, config.feature_dropout, fold(keys, FEATURES))
        return Encoded(layers[-1], layers, frame_lengths, features, energy, ffs)


def skipped(keys: jax.Array | None, blocks: int, rate: float) -> jax.Array | None:
    """Which blocks each row skips, (B, blocks) bool; None where none is (evaluation, or rate 0)."""
    if keys is None or rate == 0:
        return None
    return jax.vmap(lambda key: jax.random.bernoulli(key, rate, (blocks,)))(keys)
