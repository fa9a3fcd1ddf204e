"""Layer norm over the last axis (arXiv 1607.06450), mean and variance in float32."""

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.nn.norm_kernel import Options, fits, norm_windows


class LayerNorm(nnx.LayerNorm):
    """flax's; frames (B, T, D) in bfloat16 on a GPU by a kernel."""

    scale: nnx.Param[jax.Array]
    bias: nnx.Param[jax.Array]

    def __init__(self, width: int, dtype: jnp.dtype, rngs: nnx.Rngs, epsilon: float = 1e-6):
        super().__init__(width, epsilon=epsilon, dtype=dtype, use_fast_variance=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:  # type: ignore[override]  # flax's mask is used nowhere
        """x (…, D) -> same."""
        if x.ndim != 3 or not fits(x.dtype, x.shape[-1]) or self.dtype != x.dtype:
            return super().__call__(x)
        return norm_windows(x, self.scale[...], self.bias[...], Options(self.epsilon))[:, :, 0]
