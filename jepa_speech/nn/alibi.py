"""ALiBi: attention logits fall linearly with distance (arXiv 2108.12409, section 3), in both directions."""

import math

import jax
import jax.numpy as jnp
from flax import nnx


def slopes(heads: int) -> list[float]:
    """Of each head, per frame: 2^(−8/H), 2^(−16/H), ...; the authors' choice where H is not a power of 2."""
    power = 2 ** math.floor(math.log2(heads))
    found = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    return found if power == heads else found + slopes(2 * power)[::2][: heads - power]


class Alibi(nnx.Module):
    """−slope_h · max(scale_h, 0) · |i − j|; data2vec 2.0 learns the scales, which all blocks share."""

    def __init__(self, heads: int):
        self.scale = nnx.Param(jnp.ones(heads))

    def __call__(self, positions: jax.Array) -> jax.Array:
        """positions (B, T) in frames -> what to add to the logits, (B, H, T, T) float32."""
        distance = jnp.abs(positions[:, :, None] - positions[:, None, :])[:, None]  # (B, 1, T, T)
        rate = jnp.array(slopes(self.scale.shape[0])) * jnp.maximum(self.scale[...], 0)  # (H,)
        return -rate[:, None, None] * distance
