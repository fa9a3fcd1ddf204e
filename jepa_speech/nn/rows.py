"""Randomness by row: every random number of a recording comes from the recording's own key.

So masks, mixing and dropout do not depend on the order of the batch, on how it is split over devices or
micro-batches, or on the batch mates.
"""

import jax
import jax.numpy as jnp


def row_keys(key: jax.Array, record_id: jax.Array, epoch: jax.Array) -> jax.Array:
    """One key for each row: fold_in(fold_in(key, record), epoch); record_id, epoch (B,) -> keys (B,)."""
    return jax.vmap(lambda record, e: jax.random.fold_in(jax.random.fold_in(key, record), e))(record_id, epoch)


def fold(keys: jax.Array | None, tag: int | jax.Array) -> jax.Array | None:
    """Row keys for one named use of randomness; None (evaluation) stays None."""
    return None if keys is None else jax.vmap(lambda key: jax.random.fold_in(key, tag))(keys)


def dropout(x: jax.Array, rate: float, keys: jax.Array | None) -> jax.Array:
    """Dropout with one key a row; keys None or rate 0 is the identity. x (B, ...) -> (B, ...)."""
    if keys is None or rate == 0:
        return x
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1 - rate), 0)


def valid(lengths: jax.Array, size: int) -> jax.Array:
    """True where a row still has frames (or samples): lengths (B,) -> (B, size)."""
    return jnp.arange(size) < lengths[:, None]
