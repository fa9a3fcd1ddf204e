"""Figures that show a collapse before a probe does. Sums first (they add over devices), figures after."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


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
