"""Linear maps of the last axis."""

import jax
from flax import nnx


class Linear(nnx.Linear):
    """flax's, over rows: (…, D) is taken as (N, D).

    The same bits, but with two axes in front XLA's CPU compiler writes a transposed copy of the gradient of the output
    for each gradient of a kernel; over rows it contracts in place.
    """

    def __call__(self, x: jax.Array) -> jax.Array:
        rows = super().__call__(x.reshape(-1, x.shape[-1]))
        return rows.reshape(*x.shape[:-1], rows.shape[-1])
