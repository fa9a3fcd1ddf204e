"""Attention over valid frames, softmax(q kᵀ + gate · bias) v: by a GPU kernel if one fits, else in plain jax."""

import jax
import jax.numpy as jnp

from jepa_speech.nn import flash_attention
from jepa_speech.nn.row_random import table_dropout


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
    rows, frames, heads, _ = query.shape
    # One axis of all rows and heads in front: XLA's CPU compiler contracts over either axis of the weights in place
    # then. jax.nn.dot_product_attention, with two, copies them transposed, and takes 4 times as long there.
    query, key, value = (jnp.swapaxes(x, 1, 2).reshape(rows * heads, frames, -1) for x in (query, key, value))
    logits = jnp.einsum("ntc,nsc->nts", query, key, preferred_element_type=jnp.float32)
    logits = logits.reshape(rows, heads, frames, frames)
    if bias is not None:
        assert gate is not None  # both or neither
        logits = logits + gate[..., None] * bias
    if added is not None:
        logits = logits + added
    logits = jnp.where(inside[:, None, None, :], logits, jnp.finfo(jnp.float32).min)
    weights = table_dropout(jax.nn.softmax(logits), rate, keys).astype(value.dtype)
    mixed = jnp.einsum("nts,nsc->ntc", weights.reshape(rows * heads, frames, frames), value)
    return jnp.swapaxes(mixed.reshape(rows, heads, frames, -1), 1, 2)
