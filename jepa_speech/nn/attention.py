"""Attention over valid frames, softmax(q kᵀ + gate · bias) v: by a GPU kernel if one fits, else in plain jax.

On a TPU, by blocks of queries, so that the weights (B, H, T, T) are never held.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jepa_speech.nn import flash_attention
from jepa_speech.nn.row_random import table_draws, table_dropout
from jepa_speech.platform import on_tpu

BLOCK = 128  # queries of a block: the columns of a TPU's matrix unit


class Queries(NamedTuple):
    """What attention reads by query: of all T queries, or of a block of them."""

    query: jax.Array  # (B, T, H, C)
    draws: jax.Array | None  # (B, H, T), the queries' part of dropout's draws
    bias: jax.Array | None  # (H, T, K)
    gate: jax.Array | None  # (B, H, T)
    added: jax.Array | None  # (B, H, T, K)


AXES = {"query": 1, "draws": 2, "bias": 1, "gate": 2, "added": 2}  # of the queries


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    inside: jax.Array,
    keys: jax.Array | None = None,
    rate: float = 0.0,
    bias: jax.Array | None = None,
    gate: jax.Array | None = None,
    added: jax.Array | None = None,
) -> jax.Array:
    """query, already scaled, key and value (B, T, H, C) -> same; logits and softmax in float32.

    inside (B, T): False at padding · keys (B,): dropout of weights at this rate · bias (H, T, T) from query
    to key, and gate (B, H, T) of the queries, both float32, or neither · added (B, H, T, T) float32: to the logits; no
    kernel takes it.
    """
    if added is None and flash_attention.fits(query):
        return flash_attention.attend(query, key, value, inside.sum(1), keys, rate, bias, gate)
    frames, heads = query.shape[1:3]
    left, right = (None, None) if keys is None or rate == 0 else table_draws(keys, heads, frames, frames)
    queries = Queries(query, left, bias, gate, added)
    if on_tpu() and frames > BLOCK:
        return by_blocks(queries, key, value, inside, right, rate)
    return of_queries(queries, key, value, inside, right, rate)


def of_queries(
    queries: Queries, key: jax.Array, value: jax.Array, inside: jax.Array, draws: jax.Array | None, rate: float
) -> jax.Array:
    """Attention of Q queries to K keys, (B, Q, H, C). draws (B, K): the keys' part of dropout's draws; see `attend`."""
    rows, frames, heads, _ = queries.query.shape
    # One axis of all rows and heads in front: XLA's CPU compiler contracts over either axis of the weights in place
    # then. jax.nn.dot_product_attention, with two, copies them transposed, and takes 4 times as long there.
    query, key, value = (
        jnp.swapaxes(x, 1, 2).reshape(rows * heads, x.shape[1], -1) for x in (queries.query, key, value)
    )
    logits = jnp.einsum("ntc,nsc->nts", query, key, preferred_element_type=jnp.float32)
    if on_tpu():  # else its compiler fuses one product into the other, until its stack overflows (libtpu 0.0.42.1)
        logits = jax.lax.optimization_barrier(logits)
    logits = logits.reshape(rows, heads, frames, -1)
    if queries.bias is not None:
        assert queries.gate is not None  # both or neither
        logits = logits + queries.gate[..., None] * queries.bias
    if queries.added is not None:
        logits = logits + queries.added
    logits = jnp.where(inside[:, None, None, :], logits, jnp.finfo(jnp.float32).min)
    weights = table_dropout(jax.nn.softmax(logits), rate, queries.draws, draws).astype(value.dtype)
    mixed = jnp.einsum("nts,nsc->ntc", weights.reshape(rows * heads, frames, -1), value)
    return jnp.swapaxes(mixed.reshape(rows, heads, frames, -1), 1, 2)


@partial(jax.checkpoint, static_argnums=5)
def by_blocks(
    queries: Queries, key: jax.Array, value: jax.Array, inside: jax.Array, draws: jax.Array | None, rate: float
) -> jax.Array:
    """`of_queries` for one block of queries after the other; the backward pass computes each block's weights again.

    The blocks' gradients of keys and values are added in float32.
    """
    frames, dtype = queries.query.shape[1], key.dtype
    present = {name: x for name, x in queries._asdict().items() if x is not None}
    blocks = queries._replace(**{name: split(x, AXES[name]) for name, x in present.items()})
    wide = key.astype(jnp.float32), value.astype(jnp.float32)

    @partial(jax.checkpoint, prevent_cse=False)  # in a loop, there is nothing to prevent
    def of_block(block: Queries, key: jax.Array, value: jax.Array) -> jax.Array:
        return of_queries(block, key.astype(dtype), value.astype(dtype), inside, draws, rate)

    mixed = jax.lax.map(lambda block: of_block(block, *wide), blocks)  # (blocks, B, BLOCK, H, C)
    return jnp.moveaxis(mixed, 0, 1).reshape(mixed.shape[1], -1, *mixed.shape[3:])[:, :frames]


def split(x: jax.Array, axis: int) -> jax.Array:
    """The axis of T queries as blocks of BLOCK in front, the last one filled up with zeros: (blocks, …, BLOCK, …)."""
    x = jnp.pad(x, [(0, -size % BLOCK if i == axis else 0) for i, size in enumerate(x.shape)])
    return jnp.moveaxis(x.reshape(*x.shape[:axis], -1, BLOCK, *x.shape[axis + 1 :]), axis, 0)
