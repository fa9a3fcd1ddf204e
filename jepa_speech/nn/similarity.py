"""Cosine similarity, in float32."""

import jax
import jax.numpy as jnp


def unit_length(x: jax.Array) -> jax.Array:
    """x (..., D) float32, each vector divided by its length (by 1e-8 at least)."""
    x = x.astype(jnp.float32)
    return x / jnp.sqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-16))


def cosine(x: jax.Array, y: jax.Array) -> jax.Array:
    """Of all pairs: x (B, T, D), y (K, D) -> (B, T, K), or y (B, K, D) -> (B, T, K), row by row."""
    form = "btd,kd->btk" if y.ndim == 2 else "btd,bkd->btk"
    return jnp.einsum(form, unit_length(x), unit_length(y), precision="highest")
