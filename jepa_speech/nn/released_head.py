"""The cluster head of the released GMM-anchored JEPA, the same in its conformer and its transformer."""

import jax
from flax import nnx

from jepa_speech.nn.linear import Linear
from jepa_speech.nn.row_random import dropout, fold


def norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=1e-5, use_fast_variance=False, rngs=rngs)


def head_linear(inputs: int, outputs: int, rngs: nnx.Rngs) -> Linear:
    return Linear(inputs, outputs, kernel_init=nnx.initializers.truncated_normal(0.02), rngs=rngs)


class HeadBlock(nnx.Module):
    def __init__(self, width: int, rate: float, rngs: nnx.Rngs):
        self.rate, self.norm = rate, norm(width, rngs)
        self.up, self.down = head_linear(width, width, rngs), head_linear(width, width, rngs)

    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        x = dropout(jax.nn.gelu(self.up(self.norm(x)), approximate=False), self.rate, fold(keys, 0))
        return dropout(self.down(x), self.rate, fold(keys, 1))


class ReleasedHead(nnx.Module):
    """Logits over clusters: linear, norm, GELU, three residual blocks, norm, linear."""

    def __init__(self, width: int, clusters: int, rate: float, rngs: nnx.Rngs):
        self.input, self.input_norm = head_linear(width, 2 * width, rngs), norm(2 * width, rngs)
        self.blocks = nnx.List([HeadBlock(2 * width, rate, rngs) for _ in range(3)])
        self.output_norm, self.output = norm(2 * width, rngs), head_linear(2 * width, clusters, rngs)

    def __call__(self, z: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """z (B, T, D) -> logits (B, T, K)."""
        x = jax.nn.gelu(self.input_norm(self.input(z)), approximate=False)
        for i, block in enumerate(self.blocks):
            x = x + block(x, fold(keys, i))
        return self.output(self.output_norm(x))
