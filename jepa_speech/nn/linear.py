"""Linear maps of the last axis."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.platform import on_gpu


class Linear(nnx.Linear):
    """flax's, over rows: (…, D) is taken as (N, D).

    The same bits, but with two axes in front XLA's CPU compiler writes a transposed copy of the gradient of the output
    for each gradient of a kernel; over rows it contracts in place.
    """

    def __call__(self, x: jax.Array) -> jax.Array:  # type: ignore[override]  # flax's out_sharding is used nowhere
        rows = super().__call__(x.reshape(-1, x.shape[-1]))
        return rows.reshape(*x.shape[:-1], rows.shape[-1])


class NarrowLinear(Linear):
    """For x (B, N, C) of many frames N and few channels: on a GPU `by_frames`."""

    bias: nnx.Param[jax.Array]

    def __call__(self, x: jax.Array) -> jax.Array:  # type: ignore[override]  # as above
        if not on_gpu():
            return super().__call__(x)
        return by_frames(x.astype(self.dtype), self.kernel[...].astype(self.dtype)) + self.bias[...].astype(self.dtype)


def joined(maps: Sequence[nnx.Linear], x: jax.Array) -> list[jax.Array]:
    """Each map of the same x (…, D), as many outputs each: on a GPU one product, and one for the gradient of x."""
    if not on_gpu():
        return [linear(x) for linear in maps]
    dtype = maps[0].dtype
    kernel, bias = (
        jnp.concatenate([getattr(m, name)[...] for m in maps], -1).astype(dtype) for name in ("kernel", "bias")
    )
    rows = x.reshape(-1, x.shape[-1]).astype(dtype) @ kernel + bias
    return jnp.split(rows.reshape(*x.shape[:-1], -1), len(maps), -1)


@jax.custom_vjp
def by_frames(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x (B, T, C) @ kernel (C, D) -> (B, T, D), for many frames and few channels.

    The kernel's gradient is a product for each row, summed in float32. As one, which contracts all rows' frames to a
    small matrix, it is cut into too few pieces to keep a GPU busy: it took two and a half times as long on an H100.
    """
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:2], -1)  # over rows: see Linear


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return by_frames(x, kernel), (x, kernel)


def _backward(kept: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    rows = jnp.einsum("btc,btd->bcd", x, gradient, preferred_element_type=jnp.float32)
    rows = jax.lax.optimization_barrier(rows)  # a sum of products over rows is one product: no compiler shall see it
    back = gradient.reshape(-1, gradient.shape[-1]) @ kernel.T
    return back.reshape(x.shape), rows.sum(0).astype(kernel.dtype)


by_frames.defvjp(_forward, _backward)
