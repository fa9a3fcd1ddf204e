"""The conformer of the released GMM-anchored JEPA (arXiv 2602.09040), wired as its public code wires it.

Kept for comparison, not as an example: its encoder sees the whole wave (only the predictor's input is masked), padding
is not masked (a row's outputs depend on its batch), and blocks have no layer norm.
`encoder.relative_positions` and `encoder.adaptive_attention` are options, as they are there.
Two departures: encoder and predictor own a relative-position table each (the release shares one, and averages
only the encoder's into the teacher), and the wave is fitted to the frame grid of this package.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.config import DEEPEST, check_sizes
from jepa_speech.errors import UsageError
from jepa_speech.features.grid import HOP, SAMPLE_RATE, WINDOW, frames
from jepa_speech.nn.module import Encoded
from jepa_speech.nn.released_conv import Stage, conv, kernel_init, linear
from jepa_speech.nn.row_random import dropout, fold

KERNEL = 31  # frames of a block's depthwise convolution
BUCKETS, MAX_DISTANCE = 320, 800  # of the relative positions; distance in frames
LAYER_HEADS = 4  # of the attention over layers


@dataclass(frozen=True)
class ReleasedConfig:
    """Config section `encoder`, name `released_conformer`: as the public code of GMM-anchored JEPA has it."""

    name: Literal["released_conformer"] = "released_conformer"  # chooses this encoder
    channels: tuple[int, ...] = (32, 64, 128, 256)  # of the first convolution, and of each stage
    strides: tuple[int, ...] = (8, 8, 5)  # of each stage; their product is the hop, 320 samples
    width: int = 512  # of the blocks
    res_blocks: int = 4  # residual blocks in a stage
    blocks: int = 4  # number of conformer blocks
    heads: int = 32  # attention heads of a block
    dropout: float = 0.1  # dropout probability
    relative_positions: bool = False  # relative position bias [released code: --use_rel_pos]
    adaptive_attention: bool = False  # Gaussian attention over time after each stage [released code: --use_gaatn]

    frame_rate = SAMPLE_RATE / HOP
    min_samples = WINDOW
    padding_exact = False  # convolutions, norms and attention all run over the padding

    def __post_init__(self) -> None:
        check_sizes(self, "encoder", ("channels", "strides", "width", "heads"))
        check_sizes(self, "encoder", ("blocks", "res_blocks"), DEEPEST)
        if math.prod(self.strides) != HOP:
            raise UsageError(f"config key encoder.strides = {self.strides}: their product must be {HOP}")
        if len(self.channels) != len(self.strides) + 1:
            raise UsageError(
                f"config key encoder.channels = {self.channels}: needs one more entry than encoder.strides"
            )
        if self.width % self.heads or self.width % LAYER_HEADS:
            raise UsageError(
                f"config key encoder.width = {self.width}: must be a multiple of {LAYER_HEADS} "
                f"and of encoder.heads = {self.heads}"
            )

    @property
    def features(self) -> int:
        return self.channels[-1]

    def frames(self, samples: Any) -> Any:
        """Frames of a wave: floor((S - 400) / 320) + 1."""
        return frames(samples)


def check_mask_site(site: str) -> None:
    """Raises UsageError if frames would be masked before the encoder."""
    if site != "pre_predictor":
        raise UsageError(
            f"encoder.name = released_conformer cannot take mask.site = {site}: its front-end sees 10.4 s, so what "
            "what a mask covers before the encoder reaches visible frames nevertheless; set mask.site = pre_predictor"
        )


class FeedForward(nnx.Module):
    def __init__(self, width: int, rate: float, rngs: nnx.Rngs):
        self.rate = rate
        self.up = linear(width, 4 * width, rngs)
        self.down = linear(4 * width, width, rngs)

    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        x = dropout(jax.nn.gelu(self.up(x), approximate=False), self.rate, fold(keys, 0))
        return dropout(self.down(x), self.rate, fold(keys, 1))  # (B, T, D)


class ClipNorm(nnx.Module):
    """Normalises a row over all its frames and channels at once (group norm of one group), then scales."""

    def __init__(self, width: int):
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.standardize(x, axis=(1, 2), epsilon=1e-5) * self.scale[...] + self.bias[...]


class ConvModule(nnx.Module):
    """Norm, gate, depthwise convolution (a sum of shifted products: fast on CPU), norm, SiLU, linear."""

    def __init__(self, width: int, rate: float, rngs: nnx.Rngs):
        self.rate = rate
        self.norm_in, self.norm_out = ClipNorm(width), ClipNorm(width)
        self.gate = linear(width, 2 * width, rngs)
        self.taps = nnx.Param(kernel_init(rngs.params(), (KERNEL, 1, width))[:, 0])  # (KERNEL, D)
        self.bias = nnx.Param(jnp.zeros(width))
        self.out = linear(width, width, rngs)

    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        frames = x.shape[1]
        x = jax.nn.glu(self.gate(self.norm_in(x)))
        padded = jnp.pad(x, ((0, 0), (KERNEL // 2, KERNEL // 2), (0, 0)))
        x = sum(padded[:, k : k + frames] * self.taps[k] for k in range(KERNEL)) + self.bias[...]
        return dropout(self.out(jax.nn.silu(self.norm_out(x))), self.rate, keys)  # (B, T, D)


def bucket(offset: jax.Array) -> jax.Array:
    """Buckets of relative positions, 160 a sign: exact below 80 frames, logarithmic up to 800."""
    half, exact = BUCKETS // 2, BUCKETS // 4
    distance = jnp.abs(offset)
    ratio = jnp.log(jnp.maximum(distance, 1) / exact) / math.log(MAX_DISTANCE / exact)
    far = jnp.minimum(exact + (ratio * (half - exact)).astype(jnp.int32), half - 1)
    return jnp.where(distance < exact, distance, far) + half * (offset >= 0)


class RelativePositions(nnx.Module):
    """Gated relative position bias as in WavLM's paper (arXiv 2110.13900, section 3.1), gated by the query:
    bias = d + u d + (1 - u) s r d; d and s are learned, u and r are sigmoids of the query.
    """

    def __init__(self, heads: int, head_width: int, rngs: nnx.Rngs):
        self.table = nnx.Param(jax.random.normal(rngs.params(), (BUCKETS, heads)))
        self.update = nnx.Param(0.02 * jax.random.normal(rngs.params(), (heads, head_width)))
        self.reset = nnx.Param(0.02 * jax.random.normal(rngs.params(), (heads, head_width)))
        self.scale = nnx.Param(jnp.ones(heads))

    def __call__(self, query: jax.Array) -> jax.Array:
        """query (B, T, H, D/H) -> bias (B, H, T, T)."""
        time = jnp.arange(query.shape[1])
        d = jnp.moveaxis(self.table[...][bucket(time - time[:, None])], -1, 0)  # (H, T, T)
        update = jax.nn.sigmoid(jnp.einsum("bthd,hd->bht", query, self.update[...]))
        reset = jax.nn.sigmoid(jnp.einsum("bthd,hd->bht", query, self.reset[...]))
        gate = 1 + update + (1 - update) * self.scale[...][:, None] * reset
        return gate[..., None] * d


class Block(nnx.Module):
    """Half feed-forward, attention, convolution, half feed-forward: no norm before them, none at the end."""

    def __init__(self, config: ReleasedConfig, rngs: nnx.Rngs):
        width, self.heads, self.rate = config.width, config.heads, config.dropout
        self.ff1 = FeedForward(width, self.rate, rngs)
        self.qkv, self.out = linear(width, 3 * width, rngs), linear(width, width, rngs)
        self.convolution = ConvModule(width, self.rate, rngs)
        self.ff2 = FeedForward(width, self.rate, rngs)

    def __call__(self, x: jax.Array, positions: RelativePositions | None, keys: jax.Array | None) -> jax.Array:
        x = x + 0.5 * self.ff1(x, fold(keys, 0))
        x = x + self.attend(x, positions, fold(keys, 1))
        x = x + self.convolution(x, fold(keys, 2))
        return x + 0.5 * self.ff2(x, fold(keys, 3))  # (B, T, D)

    def attend(self, x: jax.Array, positions: RelativePositions | None, keys: jax.Array | None) -> jax.Array:
        qkv = self.qkv(x).reshape(*x.shape[:2], 3, self.heads, -1)  # (B, T, 3, H, D/H)
        query, key, value = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        logits = jnp.einsum("bthd,bshd->bhts", query, key) / math.sqrt(query.shape[-1])
        if positions is not None:
            logits = logits + positions(query)
        weights = dropout(jax.nn.softmax(logits), self.rate, keys)
        return self.out(jnp.einsum("bhts,bshd->bthd", weights, value).reshape(x.shape))


class LayerAttention(nnx.Module):
    """One weight per layer and row, from the layers' means over time.

    `value` and `output` are never used. They exist because released checkpoints contain them.
    """

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.query, self.key = linear(width, width, rngs), linear(width, width, rngs)
        self.value, self.output = linear(width, width, rngs), linear(width, width, rngs)

    def __call__(self, layers: list[jax.Array]) -> jax.Array:
        means = jnp.stack([layer.mean(1) for layer in layers], 1)  # (B, layers, D)
        query = self.query(means[:, -1]).reshape(len(means), LAYER_HEADS, -1)
        key = self.key(means).reshape(*means.shape[:2], LAYER_HEADS, -1)
        logits = jnp.einsum("bhd,blhd->bhl", query, key) / math.sqrt(query.shape[-1])
        weights = jax.nn.softmax(logits).mean(1)  # (B, layers)
        return cast(jax.Array, sum(weights[:, i, None, None] * layer for i, layer in enumerate(layers)))  # (B, T, D)


class ReleasedEncoder(nnx.Module):
    """Convolutional stages, conformer blocks, attention over layers."""

    def __init__(self, config: ReleasedConfig, rngs: nnx.Rngs):
        self.input_conv = conv(1, config.channels[0], 7, rngs, padding=3)
        sizes = zip(config.channels, config.channels[1:], config.strides, strict=False)
        self.stages = nnx.List([Stage(*size, config.res_blocks, config.adaptive_attention, rngs) for size in sizes])
        self.projection = linear(config.channels[-1], config.width, rngs)
        self.positions = relative_positions(config, rngs)
        self.blocks = nnx.List([Block(config, rngs) for _ in range(config.blocks)])
        self.layer_attention = LayerAttention(config.width, rngs)

    def __call__(
        self,
        wave: jax.Array,
        lengths: jax.Array,
        mask: jax.Array | None = None,
        keys: jax.Array | None = None,
    ) -> Encoded:
        """wave (B, S), lengths (B,) samples, mask None, keys (B,) row keys of dropout or None in evaluation.

        z is not the last layer here but a mean of all; nothing normalises the front-end's output, and no feed-forward
        is kept apart. The last stage gives S / 320 - 1 frames, so the wave is cut or zero-padded to 320 (T + 1)
        samples, T = frames(S); where 320 divides S that is what the release does.
        """
        if mask is not None:
            check_mask_site("pre_context")
        samples = HOP * (frames(wave.shape[1]) + 1)
        wave = jnp.pad(wave[:, :samples], ((0, 0), (0, max(samples - wave.shape[1], 0))))
        x = self.input_conv(wave[..., None])  # (B, S, channels)
        for stage in self.stages:
            x = stage(x)
        layers, energy = [self.projection(x)], jnp.square(x.astype(jnp.float32)).mean(-1)  # (B, T, D), (B, T)
        for i, block in enumerate(self.blocks):
            layers.append(block(layers[-1], self.positions, fold(keys, i)))
        return Encoded(self.layer_attention(layers), layers, frames(lengths), x, energy, [])


class ReleasedPredictor(nnx.Module):
    """Mask token where a frame is masked, then linear, GELU, one block, linear."""

    def __init__(self, config: ReleasedConfig, rngs: nnx.Rngs):
        self.mask_token = nnx.Param(0.02 * jax.random.normal(rngs.params(), (config.width,)))
        self.input = linear(config.width, config.width, rngs)
        self.positions = relative_positions(config, rngs)
        self.block = Block(config, rngs)
        self.output = linear(config.width, config.width, rngs)

    def __call__(
        self, z: jax.Array, mask: jax.Array, frame_lengths: jax.Array, keys: jax.Array | None = None
    ) -> jax.Array:
        """z (B, T, D), mask (B, T) True where masked, frame_lengths unused -> predicted latents (B, T, D)."""
        x = jnp.where(mask[..., None], self.mask_token[...], z)
        x = self.block(jax.nn.gelu(self.input(x), approximate=False), self.positions, keys)
        return self.output(x)


def relative_positions(config: ReleasedConfig, rngs: nnx.Rngs) -> RelativePositions | None:
    """None where the config leaves them off."""
    return RelativePositions(config.heads, config.width // config.heads, rngs) if config.relative_positions else None
