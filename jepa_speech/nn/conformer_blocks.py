"""The conformer block of Wav2Vec2-Conformer and w2v-BERT 2.0 (arXiv 2005.08100), in the form of their checkpoints."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.nn.attention import attend
from jepa_speech.nn.blocks import FeedForward, depthwise, rotate
from jepa_speech.nn.conformer_positions import KeyPositions, SinusoidPositions
from jepa_speech.nn.conv_stack import EPSILON
from jepa_speech.nn.gelu import gelu
from jepa_speech.nn.layer_norm import LayerNorm
from jepa_speech.nn.linear import Linear, joined
from jepa_speech.nn.row_random import dropout, fold
from jepa_speech.nn.wav2vec2_blocks import linear

ACTIVATIONS = {"gelu": gelu, "silu": jax.nn.silu}


@dataclass(frozen=True)
class BlockSizes:
    """What all blocks of an encoder share.

    kernel: frames of the depthwise convolution; causal: whether it sees only frames before, and a layer norm follows it
    (w2v-BERT 2.0), or frames on both sides, and a batch norm. before, after: reach of positions `relative_key`.
    """

    width: int
    heads: int
    hidden: int
    kernel: int
    causal: bool
    activation: Literal["gelu", "silu"]
    positions: Literal["relative", "rotary", "relative_key", "none"]
    rotary_base: float
    before: int
    after: int
    dropout: float
    attention_dropout: float
    activation_dropout: float
    convolution_dropout: float
    dtype: jnp.dtype


class FrozenBatchNorm(nnx.Module):
    """Batch norm by the statistics of the checkpoint, also in training: gain and offset learn, statistics do not.

    So a row does not depend on its batch. A new model has mean 0 and variance 1.
    """

    def __init__(self, width: int):
        self.scale, self.bias = nnx.Param(jnp.ones(width)), nnx.Param(jnp.zeros(width))
        self.mean, self.variance = nnx.Param(jnp.zeros(width)), nnx.Param(jnp.ones(width))

    def __call__(self, x: jax.Array) -> jax.Array:
        """x (…, D) -> same."""
        mean, variance = jax.lax.stop_gradient((self.mean[...], self.variance[...]))
        wide = (x.astype(jnp.float32) - mean) * jax.lax.rsqrt(variance + EPSILON)
        return (wide * self.scale[...] + self.bias[...]).astype(x.dtype)


def positions(sizes: BlockSizes, rngs: nnx.Rngs) -> nnx.Module | None:
    """Returns the module that adds positions to the logits; None with rotary positions or none."""
    if sizes.positions == "relative":
        return SinusoidPositions(sizes.width, sizes.heads, sizes.dtype, rngs)
    if sizes.positions == "relative_key":
        return KeyPositions(sizes.width // sizes.heads, sizes.before, sizes.after, rngs)
    return None


class Attention(nnx.Module):
    """Multi-head self-attention over valid frames; logits and softmax in float32.

    Rotary positions rotate the input of query and key, not query and key themselves.
    """

    def __init__(self, sizes: BlockSizes, rngs: nnx.Rngs):
        width, dtype = sizes.width, sizes.dtype
        self.sizes = sizes
        self.query, self.key, self.value, self.out = (linear(width, width, dtype, rngs) for _ in range(4))
        self.positions = positions(sizes, rngs)

    def __call__(self, x: jax.Array, inside: jax.Array, keys: jax.Array | None) -> jax.Array:
        """x (B, T, D), inside (B, T) -> (B, T, D)."""
        by_head = (*x.shape[:2], self.sizes.heads, -1)
        turned = x
        if self.sizes.positions == "rotary":
            turned = rotate(x.reshape(by_head), self.sizes.rotary_base).reshape(x.shape)
        query, key = (part.reshape(by_head) for part in joined((self.query, self.key), turned))  # (B, T, H, C)
        value, added, scale = self.value(x).reshape(by_head), None, key.shape[-1] ** -0.5
        if self.positions is not None:
            query, added = self.positions(query)
            added = added * scale
        mixed = attend(query * scale, key, value, inside, keys, self.sizes.attention_dropout, added=added)
        return self.out(mixed.reshape(x.shape))


class ConvModule(nnx.Module):
    """Norm, gate, depthwise convolution, norm, activation, linear (arXiv 2005.08100, fig. 2); no biases."""

    def __init__(self, sizes: BlockSizes, rngs: nnx.Rngs):
        width, dtype = sizes.width, sizes.dtype
        self.before = sizes.kernel - 1 if sizes.causal else sizes.kernel // 2
        self.activation = ACTIVATIONS[sizes.activation]
        self.norm_in = LayerNorm(width, dtype, rngs, EPSILON)
        self.gate = Linear(width, 2 * width, use_bias=False, dtype=dtype, rngs=rngs)
        self.taps = nnx.Param(jax.random.normal(rngs.params(), (sizes.kernel, width)) * sizes.kernel**-0.5)
        self.norm = LayerNorm(width, dtype, rngs, EPSILON) if sizes.causal else FrozenBatchNorm(width)
        self.out = Linear(width, width, use_bias=False, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, inside: jax.Array) -> jax.Array:
        """x (B, T, D), inside (B, T) False where padded -> (B, T, D)."""
        x = jnp.where(inside[..., None], jax.nn.glu(self.gate(self.norm_in(x))), 0)  # no padding is read
        x = depthwise(x, self.taps[...], self.before)
        return self.out(self.activation(self.norm(x)))


class ConformerBlock(nnx.Module):
    """Half feed-forward, attention, convolution, half feed-forward, norm."""

    def __init__(self, sizes: BlockSizes, rngs: nnx.Rngs):
        def norm() -> LayerNorm:
            return LayerNorm(sizes.width, sizes.dtype, rngs, EPSILON)

        def feed_forward() -> FeedForward:
            activation = ACTIVATIONS[sizes.activation]
            return FeedForward(sizes.width, sizes.hidden, sizes.activation_dropout, activation, sizes.dtype, rngs)

        self.sizes = sizes
        self.ff1_norm, self.ff1 = norm(), feed_forward()
        self.attention_norm, self.attention = norm(), Attention(sizes, rngs)
        self.convolution = ConvModule(sizes, rngs)
        self.ff2_norm, self.ff2 = norm(), feed_forward()
        self.norm = norm()

    def __call__(self, x: jax.Array, inside: jax.Array, keys: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """x (B, T, D), inside (B, T) -> output (B, T, D), and the second feed-forward's share of it."""
        sizes = self.sizes
        ff = self.ff1(self.ff1_norm(x), fold(keys, 0))
        x = x + 0.5 * dropout(ff, sizes.dropout, fold(keys, 1))
        mixed = self.attention(self.attention_norm(x), inside, fold(keys, 2))
        x = x + dropout(mixed, sizes.attention_dropout, fold(keys, 3))
        x = x + dropout(self.convolution(x, inside), sizes.convolution_dropout, fold(keys, 4))
        ff = self.ff2(self.ff2_norm(x), fold(keys, 5))
        return self.norm(x + 0.5 * dropout(ff, sizes.dropout, fold(keys, 6))), ff
