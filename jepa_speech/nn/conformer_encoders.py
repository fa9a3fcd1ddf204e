"""The published conformer encoders: Wav2Vec2-Conformer (wav2vec 2.0's convolutions) and w2v-BERT 2.0 (filter bank).

Front-end → projection → mask embedding → conformer blocks (nn/conformer_blocks.py). `nn/encoder.py` is this project's
own conformer. These two exist to read the published checkpoints and to continue training from them.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.config import DEEPEST, check_sizes
from jepa_speech.errors import UsageError
from jepa_speech.features.grid import HOP, SAMPLE_RATE, WINDOW, frames
from jepa_speech.features.kaldi import BANDS
from jepa_speech.nn.conformer_blocks import BlockSizes, ConformerBlock
from jepa_speech.nn.conv_features import ConvFeatures
from jepa_speech.nn.conv_positions import uniform_init
from jepa_speech.nn.conv_stack import EPSILON
from jepa_speech.nn.frontends import STACKED_WINDOW, FilterBankFrontend, stacked_frames
from jepa_speech.nn.layer_norm import LayerNorm
from jepa_speech.nn.linear import Linear
from jepa_speech.nn.masks import Fill, fill_masked, mask_channels
from jepa_speech.nn.module import Encoded
from jepa_speech.nn.row_random import dropout, fold, valid
from jepa_speech.nn.stack import through
from jepa_speech.nn.wav2vec2 import skipped

INPUT, FILL, LAYERDROP, FEATURES, BLOCKS = range(5)  # one use of a row's key each

SIZES = ("width", "heads", "hidden", "kernel")


@dataclass(frozen=True)
class ConformerConfig:
    """Keys that the config section `encoder` has under both names of conformers."""

    width: int = 1024  # of the blocks
    blocks: int = 24  # number of blocks
    heads: int = 16  # attention heads of a block
    hidden: int = 4096  # units inside the feed-forward layers
    kernel: int = 31  # frames of the depthwise convolutions, odd
    activation: Literal["gelu", "silu"] = "silu"  # of feed-forwards and convolution modules
    # `relative`: sinusoids as in Transformer-XL; `rotary`; `relative_key`: a learned vector for each offset; `none`
    positions: Literal["relative", "rotary", "relative_key", "none"] = "relative"
    rotary_base: int = 10_000  # of `rotary`
    before: int = 64  # of `relative_key`: the most frames back that have an offset of their own
    after: int = 8  # of `relative_key`: the most frames ahead
    dropout: float = 0.1  # of feed-forwards, and before the first block
    attention_dropout: float = 0.1  # of attention weights, and of what attention adds
    activation_dropout: float = 0.0  # inside the feed-forward layers
    convolution_dropout: float = 0.1  # of what the convolution module adds
    input_dropout: float = 0.0  # after the projection
    layerdrop: float = 0.0  # probability that a row skips a block
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the arithmetic; parameters stay float32
    scan: bool = False  # compile one block for all of them (nn/stack.py)
    remat: bool = False  # compute blocks again in the backward pass, to save memory (nn/stack.py)

    frame_rate = SAMPLE_RATE / HOP
    padding_exact = True
    causal = False

    def __post_init__(self) -> None:
        check_sizes(self, "encoder", SIZES)
        check_sizes(self, "encoder", ("blocks",), DEEPEST)
        pairs = 2 if self.positions == "rotary" else 1
        if self.width % (pairs * self.heads):
            factor = "2 * " if pairs == 2 else ""
            raise UsageError(
                f"config key encoder.width = {self.width}: must be a multiple of {factor}encoder.heads = "
                f"{pairs * self.heads}"
            )
        if self.positions == "relative" and self.width % 2:
            raise UsageError(f"config key encoder.width = {self.width}: encoder.positions = relative needs an even one")
        if self.kernel % 2 == 0:
            raise UsageError(f"config key encoder.kernel = {self.kernel}: must be odd")
        if min(self.before, self.after) < 0 or self.rotary_base < 1:
            raise UsageError(
                f"config keys encoder.before = {self.before}, after = {self.after}, rotary_base = {self.rotary_base}: "
                "expected the first two not below 0, and the third not below 1"
            )

    def block_sizes(self) -> BlockSizes:
        found = {field.name: getattr(self, field.name) for field in fields(BlockSizes)}
        return BlockSizes(**found | {"dtype": jnp.dtype(self.dtype)})


@dataclass(frozen=True)
class Wav2Vec2ConformerConfig(ConformerConfig):
    """Config section `encoder`, name `wav2vec2_conformer`. The defaults are the published Large's."""

    name: Literal["wav2vec2_conformer"] = "wav2vec2_conformer"  # chooses this encoder
    # of the convolutions: `group` or `layer` [fairseq: extractor_mode, default or layer_norm]
    norm: Literal["group", "layer"] = "layer"
    conv_bias: bool = True  # whether the convolutions have biases [fairseq: conv_bias]
    # of waves before the convolutions: `unit`: mean 0 and deviation 1 over a recording; `own`: as recorded (models of
    # transformers with `do_normalize` = false) [fairseq: task.normalize, true or false]
    level: Literal["unit", "own"] = "unit"
    channels: int = 512  # of the convolutions [fairseq: conv_feature_layers]
    feature_dropout: float = 0.0  # of the features that wav2vec 2.0 quantises [fairseq: dropout_features]
    gradient_scale: float = 1.0  # factor of the gradient into the convolutions [fairseq: feature_grad_mult]

    min_samples = WINDOW

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "encoder", ("channels",))

    @property
    def features(self) -> int:
        """Channels of `Encoded.features`."""
        return self.channels

    def frames(self, samples: Any) -> Any:
        """Frames of a wave: floor((S - 400) / 320) + 1."""
        return frames(samples)


@dataclass(frozen=True)
class Wav2Vec2BertConfig(ConformerConfig):
    """Config section `encoder`, name `wav2vec2_bert`. The defaults are w2v-BERT 2.0's.

    The front-end has no keys: 80 bands of Kaldi's filter bank every 10 ms, two frames side by side.
    """

    name: Literal["wav2vec2_bert"] = "wav2vec2_bert"  # chooses this encoder
    positions: Literal["relative", "rotary", "relative_key", "none"] = "relative_key"  # as of `wav2vec2_conformer`
    dropout: float = 0.0  # of feed-forwards, and before the first block
    attention_dropout: float = 0.0  # of attention weights, and of what attention adds

    min_samples = STACKED_WINDOW
    features = 2 * BANDS
    feature_dropout = 0.0
    causal = True

    def frames(self, samples: Any) -> Any:
        """Frames of a wave: floor((S - 560) / 320) + 1."""
        return stacked_frames(samples)


class ConformerEncoder(nnx.Module):
    """fill: the value at masked frames, `learned`, `random` or `zero` (nn/masks.py)."""

    def __init__(
        self,
        config: Wav2Vec2ConformerConfig | Wav2Vec2BertConfig,
        fill: Fill,
        rngs: nnx.Rngs,
    ):
        dtype = jnp.dtype(config.dtype)
        self.config = config
        self.frontend: ConvFeatures | FilterBankFrontend
        if isinstance(config, Wav2Vec2ConformerConfig):
            options = (config.norm, config.conv_bias, config.gradient_scale, EPSILON)
            self.frontend = ConvFeatures(config.channels, *options, dtype, rngs)
        else:
            self.frontend = FilterBankFrontend(dtype, rngs)
        self.projection = Linear(config.features, config.width, kernel_init=uniform_init, dtype=dtype, rngs=rngs)
        self.fill = fill
        learned = fill == "learned"
        self.mask_embedding = nnx.Param(jax.random.uniform(rngs.params(), (config.width,))) if learned else None
        sizes = config.block_sizes()
        self.blocks = nnx.List([ConformerBlock(sizes, rngs) for _ in range(config.blocks)])
        # Of the last block's output.
        self.norm = (
            LayerNorm(config.width, dtype, rngs, EPSILON) if isinstance(config, Wav2Vec2ConformerConfig) else None
        )

    def __call__(
        self,
        wave: jax.Array,
        lengths: jax.Array,
        mask: jax.Array | None = None,
        keys: jax.Array | None = None,
        channels: jax.Array | None = None,
    ) -> Encoded:
        """wave (B, S) standardised, lengths (B,) samples, mask (B, T) True where masked, keys (B,) or None,
        channels (B, D) True where a feature of the projection is masked in all frames.

        layers[0] is the first block's input, as transformers' hidden_states[0]; the last layer is the output.
        """
        config = self.config
        frame_lengths = config.frames(lengths)
        inside = valid(frame_lengths, config.frames(wave.shape[1]))  # (B, T)
        if isinstance(self.frontend, ConvFeatures):
            features, energy = self.frontend(wave, lengths)  # (B, T, C), (B, T)
        else:
            features, energy = self.frontend(wave, lengths, mask)
        x = dropout(self.projection(features), config.input_dropout, fold(keys, INPUT))  # (B, T, D)
        x = mask_channels(fill_masked(x, mask, self.fill, self.mask_embedding, fold(keys, FILL)), channels)
        x = dropout(x, config.dropout, fold(keys, BLOCKS + config.blocks))
        skip = skipped(fold(keys, LAYERDROP), len(self.blocks), config.layerdrop)

        def step(block: ConformerBlock, x: jax.Array, i: int | jax.Array) -> tuple[jax.Array, jax.Array]:
            out, ff = block(x, inside, fold(keys, BLOCKS + i))
            return out if skip is None else jnp.where(skip[:, i, None, None], x, out), ff

        layers, ffs = through(self.blocks, x, step, config.scan, config.remat)
        if self.norm is not None:
            layers[-1] = self.norm(layers[-1])
        features = dropout(features, config.feature_dropout, fold(keys, FEATURES))
        return Encoded(layers[-1], layers, frame_lengths, features, energy, ffs)
