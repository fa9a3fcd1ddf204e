"""A quasi-recurrent layer (arXiv 1611.01576): gates from a convolution, then a recurrence without matrices."""

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.nn.linear import Linear


class QRNN(nnx.Module):
    """f-pooling over a window of two frames, from left to right:

    z, f, o = W [x_t ; x_{t-1}] + b,   c_t = σ(f) tanh(z) + (1 - σ(f)) c_{t-1},   h_t = σ(o) c_t

    (f weighs the new value here, as in the implementation that PASE+ uses.) Later frames, and so padding behind the
    valid ones, reach no earlier frame.
    """

    def __init__(self, width: int, units: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.gates = Linear(2 * width, 3 * units, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, T, D) -> (B, T, units)."""
        before = jnp.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1]
        z, f, o = jnp.split(self.gates(jnp.concatenate([x, before], -1)).astype(jnp.float32), 3, -1)
        new = jax.nn.sigmoid(f)
        return (jax.nn.sigmoid(o) * linear_recurrence(1 - new, new * jnp.tanh(z))).astype(x.dtype)


def linear_recurrence(keep: jax.Array, new: jax.Array) -> jax.Array:
    """c_t = keep_t · c_{t-1} + new_t along axis 1, from c = 0; all (B, T, D)."""
    if jax.export.is_symbolic_dim(keep.shape[1]):  # of an exported program: only frame by frame can it do any number

        def after(c: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            c = now[0] * c + now[1]
            return c, c

        by_time = (jnp.moveaxis(keep, 1, 0), jnp.moveaxis(new, 1, 0))
        return jnp.moveaxis(jax.lax.scan(after, jnp.zeros_like(new[:, 0]), by_time)[1], 0, 1)

    def join(first: tuple[jax.Array, jax.Array], second: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return first[0] * second[0], second[0] * first[1] + second[1]

    return jax.lax.associative_scan(join, (keep, new), axis=1)[1]
