"""Randomness by row: every random number of a recording comes from the recording's own key.

So masks, mixing and dropout do not depend on the order of the batch, on how it is split over devices or
micro-batches, or on the other rows.
"""

import math
from typing import overload

import jax
import jax.numpy as jnp


def row_keys(key: jax.Array, record_id: jax.Array, epoch: jax.Array) -> jax.Array:
    """One key for each row: fold_in(fold_in(key, record), epoch); record_id, epoch (B,) -> keys (B,)."""
    return jax.vmap(lambda record, e: jax.random.fold_in(jax.random.fold_in(key, record), e))(record_id, epoch)


@overload
def fold(keys: jax.Array, tag: int | jax.Array) -> jax.Array: ...
@overload
def fold(keys: jax.Array | None, tag: int | jax.Array) -> jax.Array | None: ...
def fold(keys: jax.Array | None, tag: int | jax.Array) -> jax.Array | None:
    """Row keys for one named use of randomness; None (evaluation) stays None."""
    return None if keys is None else jax.vmap(lambda key: jax.random.fold_in(key, tag))(keys)


def dropout(x: jax.Array, rate: float, keys: jax.Array | None) -> jax.Array:
    """Dropout with one key a row; keys None or rate 0 is the identity. x (B, ...) -> (B, ...)."""
    if keys is None or rate == 0:
        return x
    first, second = jnp.moveaxis(jax.random.key_data(keys), 1, 0).reshape(2, -1, *[1] * (x.ndim - 1))
    place = jnp.arange(math.prod(x.shape[1:]), dtype=jnp.uint32).reshape(x.shape[1:])
    return jnp.where(draws(first, second, place) >= threshold(rate), x / (1 - rate), 0)


def draws(first: jax.Array, second: jax.Array, place: jax.Array) -> jax.Array:
    """uint32 draws for places (uint32) of a row, from the two words of its key.

    A hash of the place, keyed by one word and then by the other: some twenty operations, a fifth of jax's own generator
    (threefry), few enough to be done again in the backward pass and inside a kernel. It is good enough to drop
    activations by (tests/nn/test_row_random.py), and it is used for nothing else.
    """
    return scramble(scramble(place ^ first) ^ second)


def table_dropout(x: jax.Array, rate: float, left: jax.Array | None, right: jax.Array | None) -> jax.Array:
    """Dropout of attention's weights x (B, H, Q, K) by their `table_draws`; without these the identity."""
    if left is None or right is None:
        return x
    kept = draw(left[..., None], right[:, None, None, :]) >= threshold(rate)
    return jnp.where(kept, x / (1 - rate), 0)


def table_draws(keys: jax.Array, heads: int, queries: int, frames: int) -> tuple[jax.Array, jax.Array]:
    """keys (B,) -> uint32 (B, H, Q) and (B, K): `draw` of both is a table's, a fourth of the work of `draws`."""
    first, second = jnp.moveaxis(jax.random.key_data(keys), 1, 0)[:, :, None]  # (B, 1)
    left = draws(first, second, jnp.arange(heads * queries, dtype=jnp.uint32))
    right = draws(second, first, jnp.arange(frames, dtype=jnp.uint32))
    return left.reshape(-1, heads, queries), right


def draw(left: jax.Array, right: jax.Array) -> jax.Array:
    """uint32 of a table's place, from the draws of its row and column.

    The product removes the correlation between four places that exclusive or alone leaves.
    """
    x = (left ^ right) * jnp.uint32(0x7FEB352D)
    return (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)


def scramble(x: jax.Array) -> jax.Array:
    """A bijection of uint32 in which each bit of x affects each bit of the result (C. Wellons' lowbias32)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def threshold(rate: float) -> jnp.uint32:
    """The uint32 below which this share of all uint32 lies."""
    return jnp.uint32(min(round(rate * 2**32), 2**32 - 1))


def valid(lengths: jax.Array, size: int) -> jax.Array:
    """True where a row still has frames (or samples): lengths (B,) -> (B, size)."""
    return jnp.arange(size) < lengths[:, None]
