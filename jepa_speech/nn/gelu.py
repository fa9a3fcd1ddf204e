"""GELU (arXiv 1606.08415): x Φ(x) with the normal distribution itself, not its approximation by tanh."""

import jax
import jax.numpy as jnp

from jepa_speech.platform import on_gpu, on_tpu

# erfc(z) exp(z²) = a₁ t + … + a₅ t⁵ with t = 1 / (1 + 0.3275911 z), z >= 0: Abramowitz & Stegun, 7.1.26; a₅ first.
ERFC = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


def gelu(x: jax.Array) -> jax.Array:
    """x (…) -> same. In bfloat16 on a GPU or TPU by `normal`, keeping x alone for the backward pass."""
    short = x.dtype == jnp.bfloat16 and (on_gpu() or on_tpu())
    return _short(x) if short else jax.nn.gelu(x, approximate=False)


def normal(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Φ(x) within 3e-7, and φ(x): x float32 -> both. Φ(-|x|) = erfc(|x| / √2) / 2.

    XLA's erfc takes so many operations that a GPU waits for them and not for its memory, and that the TPU's compiler
    takes twice as long for a convolution that reads it (benchmarks/NOTES.md). bfloat16 resolves relative differences of
    4e-3.
    """
    bell = jnp.exp2(-0.72134752 * x * x)
    t = 1 / (1 + 0.23164189 * jnp.abs(x))
    tail: jax.Array | float = ERFC[0]
    for coefficient in ERFC[1:]:
        tail = tail * t + coefficient
    tail = 0.5 * tail * t * bell
    return jnp.where(x > 0, 1 - tail, tail), 0.3989422804 * bell


@jax.custom_vjp
def _short(x: jax.Array) -> jax.Array:
    wide = x.astype(jnp.float32)
    return (wide * normal(wide)[0]).astype(x.dtype)


def _forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _short(x), x


def _backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    wide = x.astype(jnp.float32)
    below, density = normal(wide)
    return ((gradient.astype(jnp.float32) * (below + wide * density)).astype(x.dtype),)


_short.defvjp(_forward, _backward)
