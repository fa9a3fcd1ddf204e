"""Figures that show a collapse before a probe does. Sums first (they add over devices), figures after."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

MIN_RANK, MIN_VARIANCE, MIN_PERPLEXITY = 1.5, 1e-4, 1.5


class Moments(NamedTuple):
    """Count (), sum (D,) and sum of outer products (D, D) of the frames chosen by a weight."""

    count: jax.Array
    first: jax.Array
    second: jax.Array


def moments(x: jax.Array, weight: jax.Array) -> Moments:
    """x (B, T, D), weight (B, T) -> sums in float32; no gradient flows."""
    x = jax.lax.stop_gradient(x).astype(jnp.float32)
    second = jnp.einsum("btd,bte,bt->de", x, x, weight, precision="highest")
    return Moments(weight.sum(), jnp.einsum("btd,bt->d", x, weight), second)


def covariance(m: Moments) -> jax.Array:
    mean = m.first / jnp.maximum(m.count, 1)
    return m.second / jnp.maximum(m.count, 1) - jnp.outer(mean, mean)  # (D, D)


def variance(m: Moments) -> jax.Array:
    """Mean over dimensions of the variance over frames."""
    return jnp.maximum(jnp.diagonal(covariance(m)), 0).mean()


def effective_rank(m: Moments) -> jax.Array:
    """exp(entropy of the normalised singular values) of the centred frames (Roy & Vetterli 2007)."""
    singular = jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(covariance(m)), 0))
    p = singular / jnp.maximum(singular.sum(), 1e-12)
    return jnp.exp(-jnp.sum(p * jnp.log(jnp.maximum(p, 1e-12))))


def usage_entropy(counts: jax.Array) -> jax.Array:
    """Entropy of cluster usage over ln K: 1 where all clusters are used alike. counts (K,)."""
    p = counts / jnp.maximum(counts.sum(), 1)
    return -jnp.sum(p * jnp.log(jnp.maximum(p, 1e-12))) / jnp.log(counts.size)


def collapsed(figures: Mapping[str, float]) -> str:
    """What a report shows of a collapse, in words; empty where it shows none.

    An alarm, not a measure of quality: a healthy representation fills many dimensions and moves over time.
    """
    if figures.get("effective_rank", math.inf) < MIN_RANK:
        return f"effective rank {figures['effective_rank']:.2f}: frames lie along one direction"
    for name in ("prediction_variance", "target_variance"):
        if figures.get(name, math.inf) < MIN_VARIANCE:
            return f"{name} {figures[name]:.1e}: all frames are mapped to one vector"
    if figures.get("code_perplexity", math.inf) < MIN_PERPLEXITY:
        return f"code perplexity {figures['code_perplexity']:.2f}: nearly all frames get one code"
    return ""
