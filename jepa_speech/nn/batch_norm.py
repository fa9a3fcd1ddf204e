"""Batch normalisation without internal state: it returns batch statistics as sums, and takes running ones as arguments.

Sums add over micro-batches. Under jit they are those of the whole batch, on any number of devices. Each micro-batch is
normalised by itself.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

Running = dict[str, jax.Array]  # "mean" (C,), "variance" (C,)

EPSILON = 1e-5
MOMENTUM = 0.1  # of the newest batch in the running statistics


class Sums(NamedTuple):
    """Weight (), weighted sum (C,) and sum of squares (C,)."""

    weight: jax.Array
    first: jax.Array
    second: jax.Array


def frame_statistics(x: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array, Sums]:
    """Mean and variance (C,) over the frames of x (B, T, C) that `weight` (B, T) chooses, and their sums."""
    count = weight.sum()
    share = (weight / jnp.maximum(count, 1))[..., None]
    mean = (x * share).sum((0, 1))
    variance = (jnp.square(x - mean) * share).sum((0, 1))
    first, second = jax.lax.stop_gradient((mean * count, (jnp.square(mean) + variance) * count))
    return mean, variance, Sums(count, first, second)


def mean_and_variance(sums: Sums) -> tuple[jax.Array, jax.Array]:
    mean = sums.first / jnp.maximum(sums.weight, 1)
    return mean, jnp.maximum(sums.second / jnp.maximum(sums.weight, 1) - jnp.square(mean), 0)


def fresh_running(width: int) -> Running:
    return {"mean": jnp.zeros(width), "variance": jnp.ones(width)}


def update_running(running: Running, sums: Sums) -> Running:
    """Running statistics with the newest batch at weight MOMENTUM; a batch without a valid frame changes nothing."""
    rate = jnp.where(sums.weight > 0, MOMENTUM, 0.0)
    mean, variance = mean_and_variance(sums)
    return {
        "mean": running["mean"] + rate * (mean - running["mean"]),
        "variance": running["variance"] + rate * (variance - running["variance"]),
    }


def fresh_pool(width: int) -> Running:
    return {"weight": jnp.zeros(()), "mean": jnp.zeros(width), "variance": jnp.zeros(width)}


def pool(seen: Running, sums: Sums) -> Running:
    """Returns the statistics of all batches so far, these sums included (Chan et al. 1979, eq. 2.1)."""
    weight = seen["weight"] + sums.weight
    share = sums.weight / jnp.maximum(weight, 1)
    mean, variance = mean_and_variance(sums)
    apart = mean - seen["mean"]
    return {
        "weight": weight,
        "mean": seen["mean"] + share * apart,
        "variance": (1 - share) * seen["variance"] + share * variance + share * (1 - share) * jnp.square(apart),
    }


class BatchNorm(nnx.Module):
    """(x - mean) / sqrt(variance + 1e-5), then gain and offset per channel where `affine`. float32 inside."""

    def __init__(self, width: int, affine: bool = True):
        self.scale = nnx.Param(jnp.ones(width)) if affine else None
        self.bias = nnx.Param(jnp.zeros(width)) if affine else None

    def __call__(self, x: jax.Array, weight: jax.Array, running: Running | None = None) -> tuple[jax.Array, Sums]:
        """x (B, T, C), weight (B, T). `running` replaces the batch's own statistics, as in evaluation."""
        y = x.astype(jnp.float32)
        mean, variance, sums = frame_statistics(y, weight)
        if running is not None:
            mean, variance = running["mean"], running["variance"]
        y = (y - mean) * jax.lax.rsqrt(variance + EPSILON)
        if self.scale is not None and self.bias is not None:
            y = y * self.scale[...] + self.bias[...]
        return y.astype(x.dtype), sums
