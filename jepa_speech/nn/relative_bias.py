"""WavLM's gated relative position bias (arXiv 2110.13900, section 3.1), in the form of its released checkpoints."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jepa_speech.nn.linear import NarrowLinear


def buckets(offset: np.ndarray, count: int, max_distance: int) -> np.ndarray:
    """Bucket of the offset key - query in frames: count/2 a sign, exact below count/4, then logarithmic.

    Distances of `max_distance` and more share the last bucket; offset 0 counts as a key before the query.
    """
    half, exact = count // 2, count // 4
    distance = np.abs(offset)
    ratio = np.log(np.maximum(distance, 1) / exact) / math.log(max_distance / exact)
    far = np.minimum(exact + (ratio * (half - exact)).astype(int), half - 1)
    return np.where(distance < exact, distance, far) + half * (offset > 0)


class RelativeBias(nnx.Module):
    """The table of an encoder, from which every block takes the same bias."""

    def __init__(self, heads: int, count: int, max_distance: int, rngs: nnx.Rngs):
        self.count, self.max_distance = count, max_distance
        self.table = nnx.Param(nnx.initializers.xavier_normal()(rngs.params(), (count, heads)))

    def __call__(self, frames: int) -> jax.Array:
        """(H, T, T) float32: from query to key."""
        reach = self.max_distance  # farther ones are in its bucket
        bucket = buckets(np.arange(-reach, reach + 1), self.count, reach)
        by_offset = self.table[...][bucket].astype(jnp.float32)  # (2 reach + 1, H)
        time = jnp.arange(frames)
        offset = jnp.clip(time - time[:, None], -reach, reach)  # (T, T)
        return jnp.moveaxis(by_offset[offset + reach], -1, 0)


class BiasGate(nnx.Module):
    """A block's gate, from the frame that its attention reads, head by head: a (b c - 1) + 2.

    a and b are sigmoids of a linear map that the heads share, c is one number a head. With u = 1 - a that is the
    paper's d + u d + (1 - u) c b d. Each sigmoid reads the sum of four outputs of the map: one would do, but the
    checkpoints have four.
    """

    def __init__(self, width: int, heads: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.heads = heads
        self.linear = NarrowLinear(width // heads, 8, kernel_init=nnx.initializers.normal(0.02), dtype=dtype, rngs=rngs)
        self.constant = nnx.Param(jnp.ones(heads))

    def __call__(self, x: jax.Array) -> jax.Array:
        """x (B, T, D), the attention's input -> (B, H, T) float32: one gate a query."""
        rows, frames, _ = x.shape
        gates = self.linear(x.reshape(rows, frames * self.heads, -1)).astype(jnp.float32)  # (B, T H, 8)
        a, b = jnp.moveaxis(jax.nn.sigmoid(gates.reshape(rows, frames, self.heads, 2, 4).sum(-1)), -1, 0)
        return jnp.moveaxis(a * (b * self.constant[...] - 1) + 2, 1, 2)
