"""Transformer and conformer blocks: pre-norm, rotary positions, no statistic over time, padding masked everywhere."""

from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.nn.attention import attend
from jepa_speech.nn.layer_norm import LayerNorm
from jepa_speech.nn.linear import Linear
from jepa_speech.nn.row_random import dropout, fold

Activation = Callable[[jax.Array], jax.Array]


def rotary_frequencies(half: int, base: float = 10_000.0) -> jax.Array:
    """Radians a frame, of each pair of channels: (half,)."""
    return base ** (-jnp.arange(half) / half)


def rotate(x: jax.Array, base: float = 10_000.0, positions: jax.Array | None = None) -> jax.Array:
    """Rotary position embedding (arXiv 2104.09864, eq. 34): x (B, T, H, D/H) -> same.

    positions (B, T) of the frames; None: 0, 1, 2, ...
    """
    a, b = jnp.split(x, 2, axis=-1)
    positions = jnp.arange(x.shape[1]) if positions is None else positions
    angle = positions[..., None, None] * rotary_frequencies(a.shape[-1], base)  # (B, T, 1, D/H/2), or without B
    cos, sin = jnp.cos(angle).astype(x.dtype), jnp.sin(angle).astype(x.dtype)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


class Attention(nnx.Module):
    """Multi-head self-attention over valid frames; softmax in float32."""

    def __init__(self, width: int, heads: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.heads = heads
        self.qkv = Linear(width, 3 * width, dtype=dtype, rngs=rngs)
        self.out = Linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, valid: jax.Array, positions: jax.Array | None) -> jax.Array:
        parts = jnp.split(self.qkv(x), 3, axis=-1)
        query, key, value = (part.reshape(*x.shape[:2], self.heads, -1) for part in parts)  # (B, T, H, D/H)
        query, key = (rotate(part, positions=positions) for part in (query, key))
        query = query * query.shape[-1] ** -0.5
        return self.out(attend(query, key, value, valid).reshape(x.shape))  # (B, T, D)


class FeedForward(nnx.Module):
    def __init__(self, width: int, hidden: int, rate: float, activation: Activation, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.rate, self.activation = rate, activation
        self.up = Linear(width, hidden, dtype=dtype, rngs=rngs)
        self.down = Linear(hidden, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        return self.down(dropout(self.activation(self.up(x)), self.rate, keys))  # (B, T, D)


def depthwise(x: jax.Array, taps: jax.Array, before: int) -> jax.Array:
    """A convolution of each channel with its own taps: x (B, T, D), taps (K, D) -> (B, T, D).

    Frame t sees `before` frames before it and K - 1 - before after it. The convolution is a sum of shifted products: on
    CPU several times as fast as a grouped convolution, and equal.
    """
    kernel = len(taps)
    padded, taps = jnp.pad(x, ((0, 0), (before, kernel - 1 - before), (0, 0))), taps.astype(x.dtype)
    return cast(jax.Array, sum(padded[:, k : k + x.shape[1]] * taps[k] for k in range(kernel)))


class ConvModule(nnx.Module):
    """The conformer's convolution module (arXiv 2005.08100, fig. 2), layer norm in place of batch norm."""

    def __init__(self, width: int, kernel: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.kernel = kernel
        self.gate = Linear(width, 2 * width, dtype=dtype, rngs=rngs)
        self.taps = nnx.Param(jax.random.normal(rngs.params(), (kernel, width)) * kernel**-0.5)  # (kernel, D)
        self.norm = LayerNorm(width, dtype, rngs)
        self.out = Linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, valid: jax.Array) -> jax.Array:
        x = jax.nn.glu(self.gate(x)) * valid[..., None]  # no padding is read
        x = depthwise(x, self.taps[...], self.kernel // 2)
        return self.out(jax.nn.silu(self.norm(x)))  # (B, T, D)


class TransformerBlock(nnx.Module):
    """x + attention, x + feed-forward, each on the normalised input."""

    def __init__(self, width: int, heads: int, hidden: int, rate: float, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.rate = rate
        self.attention_norm, self.ff_norm = LayerNorm(width, dtype, rngs), LayerNorm(width, dtype, rngs)
        self.attention = Attention(width, heads, dtype, rngs)
        self.ff = FeedForward(width, hidden, rate, jax.nn.gelu, dtype, rngs)

    def __call__(
        self, x: jax.Array, valid: jax.Array, keys: jax.Array | None = None, positions: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """x (B, T, D), valid (B, T), positions (B, T) if not 0, 1, ... -> output (B, T, D), and the feed-forward's
        share of it.
        """
        x = x + dropout(self.attention(self.attention_norm(x), valid, positions), self.rate, fold(keys, 0))
        ff = self.ff(self.ff_norm(x), fold(keys, 1))
        return x + dropout(ff, self.rate, fold(keys, 2)), ff


class ConformerBlock(nnx.Module):
    """Half feed-forward, attention, convolution, half feed-forward, final norm (arXiv 2005.08100, section 2.4)."""

    def __init__(self, width: int, heads: int, hidden: int, kernel: int, rate: float, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.rate = rate
        self.norms = nnx.List([LayerNorm(width, dtype, rngs) for _ in range(5)])
        self.ff1 = FeedForward(width, hidden, rate, jax.nn.silu, dtype, rngs)
        self.attention = Attention(width, heads, dtype, rngs)
        self.convolution = ConvModule(width, kernel, dtype, rngs)
        self.ff2 = FeedForward(width, hidden, rate, jax.nn.silu, dtype, rngs)

    def __call__(
        self, x: jax.Array, valid: jax.Array, keys: jax.Array | None = None, positions: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """x (B, T, D), valid (B, T), positions (B, T) if not 0, 1, ... -> output (B, T, D), and the second
        feed-forward's share of it. The convolution reads neighbours in x, whatever their positions.
        """
        x = x + 0.5 * dropout(self.ff1(self.norms[0](x), fold(keys, 0)), self.rate, fold(keys, 1))
        x = x + dropout(self.attention(self.norms[1](x), valid, positions), self.rate, fold(keys, 2))
        x = x + dropout(self.convolution(self.norms[2](x), valid), self.rate, fold(keys, 3))
        ff = self.ff2(self.norms[3](x), fold(keys, 4))
        return self.norms[4](x + 0.5 * dropout(ff, self.rate, fold(keys, 5))), ff
