"""Relative positions in the attention of the published conformers, as terms of the logits.

Rotary positions are in nn/conformer_blocks.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jepa_speech.nn.linear import Linear


def sinusoids(frames: int, width: int) -> jax.Array:
    """Sinusoids of all offsets, (2 frames - 1, width). Row n has the offset frames - 1 - n; a positive offset is a key
    before the query.

    Sines in even channels, cosines in odd ones (arXiv 1901.02860, section 3.3).
    """
    offset = frames - 1 - jnp.arange(2 * frames - 1, dtype=jnp.float32)
    rate = np.exp(np.arange(0, width, 2, dtype=np.float32) * np.float32(-np.log(10_000.0) / width))
    angle = offset[:, None] * rate
    return jnp.stack([jnp.sin(angle), jnp.cos(angle)], -1).reshape(2 * frames - 1, width)


class SinusoidPositions(nnx.Module):
    """Transformer-XL's (arXiv 1901.02860, section 3.3): (q + u)·k + (q + v)·W r, r the sinusoids of the offset."""

    def __init__(self, width: int, heads: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.linear = Linear(width, width, use_bias=False, dtype=dtype, rngs=rngs)
        shape, init = (heads, width // heads), nnx.initializers.xavier_uniform()
        self.content_bias = nnx.Param(init(rngs.params(), shape))  # u
        self.position_bias = nnx.Param(init(rngs.params(), shape))  # v

    def __call__(self, query: jax.Array) -> tuple[jax.Array, jax.Array]:
        """query (B, T, H, C) -> the query to multiply with the keys, and q·position (B, H, T, T) in float32."""
        rows, frames, heads, _ = query.shape
        table = sinusoids(frames, self.linear.in_features)
        table = self.linear(table.astype(query.dtype)).reshape(2 * frames - 1, heads, -1)
        shifted = query + self.position_bias[...].astype(query.dtype)
        by_offset = jnp.einsum("bthc,nhc->bhtn", shifted, table, preferred_element_type=jnp.float32)
        # Query t needs the rows from frames - 1 - t on. One column more in front makes each row begin one earlier.
        by_offset = jnp.pad(by_offset, ((0, 0), (0, 0), (0, 0), (1, 0))).reshape(rows, heads, 2 * frames, frames)
        by_offset = by_offset[:, :, 1:].reshape(rows, heads, frames, 2 * frames - 1)
        return query + self.content_bias[...].astype(query.dtype), by_offset[..., :frames]


class KeyPositions(nnx.Module):
    """One vector for each offset of the key, from `before` frames before the query to `after` frames after it (arXiv
    1803.02155, eq. 4). Keys farther away share the outermost vectors.
    """

    def __init__(self, channels: int, before: int, after: int, rngs: nnx.Rngs):
        self.before, self.after = before, after
        self.table = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), (before + 1 + after, channels)))

    def __call__(self, query: jax.Array) -> tuple[jax.Array, jax.Array]:
        """query (B, T, H, C) -> itself, and q·position (B, H, T, T) in float32."""
        table = self.table[...].astype(query.dtype)
        by_offset = jnp.einsum("bthc,nc->bhtn", query, table, preferred_element_type=jnp.float32)
        time = jnp.arange(query.shape[1])
        offset = jnp.clip(time - time[:, None], -self.before, self.after) + self.before  # (T, T)
        return query, jnp.take_along_axis(by_offset, offset[None, None], -1)
