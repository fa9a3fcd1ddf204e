"""The transformer block of wav2vec 2.0 and its kin: post-norm (Base) or pre-norm (Large), positions from outside."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.nn.attention import attend
from jepa_speech.nn.conv_stack import EPSILON
from jepa_speech.nn.gelu import gelu
from jepa_speech.nn.layer_norm import LayerNorm
from jepa_speech.nn.linear import Linear, joined
from jepa_speech.nn.relative_bias import BiasGate
from jepa_speech.nn.row_random import dropout, fold


@dataclass(frozen=True)
class BlockSizes:
    """What all blocks of an encoder share. gated: whether a relative position bias comes in, to be gated.
    epsilon: of the layer norms.
    adapter: width inside the adapters; 0: none.
    """

    width: int
    heads: int
    hidden: int
    pre_norm: bool
    gated: bool
    epsilon: float
    adapter: int
    dropout: float
    attention_dropout: float
    activation_dropout: float
    dtype: jnp.dtype


def linear(inputs: int, outputs: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> Linear:
    return Linear(inputs, outputs, kernel_init=nnx.initializers.normal(0.02), dtype=dtype, rngs=rngs)


class Attention(nnx.Module):
    """Multi-head self-attention over valid frames; logits and softmax in float32."""

    def __init__(self, sizes: BlockSizes, rngs: nnx.Rngs):
        width, dtype = sizes.width, sizes.dtype
        self.heads, self.rate = sizes.heads, sizes.attention_dropout
        self.query, self.key, self.value, self.out = (linear(width, width, dtype, rngs) for _ in range(4))
        self.gate = BiasGate(width, sizes.heads, dtype, rngs) if sizes.gated else None

    def __call__(
        self,
        x: jax.Array,
        inside: jax.Array,
        bias: jax.Array | None,
        keys: jax.Array | None,
        added: jax.Array | None,
    ) -> jax.Array:
        """x (B, T, D), inside (B, T), bias (H, T, T) or None, added (B, H, T, T) to the logits or None -> (B, T, D)."""
        parts = joined((self.query, self.key, self.value), x)
        query, key, value = (part.reshape(*x.shape[:2], self.heads, -1) for part in parts)  # (B, T, H, D/H)
        query = query * query.shape[-1] ** -0.5
        gate = None if self.gate is None else self.gate(x)  # (B, H, T)
        return self.out(attend(query, key, value, inside, keys, self.rate, bias, gate, added).reshape(x.shape))


class Adapter(nnx.Module):
    """What MMS (arXiv 2305.13516, section 5.1) adds after each block for one language: norm, down, ReLU, up."""

    def __init__(self, sizes: BlockSizes, rngs: nnx.Rngs):
        self.norm = LayerNorm(sizes.width, sizes.dtype, rngs, EPSILON)
        self.down = linear(sizes.width, sizes.adapter, sizes.dtype, rngs)
        self.up = linear(sizes.adapter, sizes.width, sizes.dtype, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """x (B, T, D) -> same."""
        return self.up(jax.nn.relu(self.down(self.norm(x))))


class Block(nnx.Module):
    """Attention, then feed-forward, each with a residual. Norms are after the sums (post-norm) or before both."""

    def __init__(self, sizes: BlockSizes, rngs: nnx.Rngs):
        self.sizes = sizes
        self.attention = Attention(sizes, rngs)
        self.attention_norm = LayerNorm(sizes.width, sizes.dtype, rngs, sizes.epsilon)
        self.up = linear(sizes.width, sizes.hidden, sizes.dtype, rngs)
        self.down = linear(sizes.hidden, sizes.width, sizes.dtype, rngs)
        self.ff_norm = LayerNorm(sizes.width, sizes.dtype, rngs, sizes.epsilon)
        self.adapter = Adapter(sizes, rngs) if sizes.adapter else None

    def __call__(
        self,
        x: jax.Array,
        inside: jax.Array,
        bias: jax.Array | None,
        keys: jax.Array | None,
        added: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array]:
        """x (B, T, D), inside (B, T), bias (H, T, T) and added (B, H, T, T), or None -> output (B, T, D), and the
        feed-forward's share of it.
        """
        rate, pre_norm = self.sizes.dropout, self.sizes.pre_norm
        read = self.attention_norm(x) if pre_norm else x
        x = x + dropout(self.attention(read, inside, bias, fold(keys, 0), added), rate, fold(keys, 1))
        if not pre_norm:
            x = self.attention_norm(x)
        read = self.ff_norm(x) if pre_norm else x
        up = gelu(self.up(read))
        ff = self.down(dropout(up, self.sizes.activation_dropout, fold(keys, 2)))
        x = x + dropout(ff, rate, fold(keys, 3))
        if not pre_norm:
            x = self.ff_norm(x)
        return (x if self.adapter is None else x + self.adapter(x)), ff
