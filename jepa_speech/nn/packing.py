"""Visible frames side by side, for blocks that encode nothing else (data2vec 2.0, arXiv 2212.07525, section 3.2).

Rows have different numbers of visible frames, so all are packed to one static size. Places beyond a row's number hold
other frames, which attention must not read. A block that mixes frames by attention alone, and takes their positions,
gives each visible frame the same output as in the whole row with masked keys removed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Packing(NamedTuple):
    visible: jax.Array | None  # (B, T) bool; None: all frames are at their own places
    positions: jax.Array  # (B, P), or (1, T): the frame at each place, visible ones first and in order
    inside: jax.Array  # (B, P) bool, False where attention must not read

    def gather(self, x: jax.Array) -> jax.Array:
        """x (B, T, D) -> its visible frames (B, P, D)."""
        return x if self.visible is None else jnp.take_along_axis(x, self.positions[..., None], 1)

    def scatter(self, x: jax.Array) -> jax.Array:
        """x (B, P, D) -> (B, T, D), each visible frame at its own place; 0 elsewhere."""
        if self.visible is None:
            return x
        place = jnp.clip(jnp.cumsum(self.visible, 1) - 1, 0, x.shape[1] - 1)  # of the visible frames
        return jnp.where(self.visible[..., None], jnp.take_along_axis(x, place[..., None], 1), 0)


def pack(inside: jax.Array, mask: jax.Array | None, size: int | None) -> Packing:
    """inside (B, T) False at padding, mask (B, T) True where masked -> the packing of the frames that are neither.

    size: places in a row, P; visible frames beyond it are lost. None: no frame is moved, and masked ones are kept.
    """
    if size is None:
        return Packing(None, jnp.arange(inside.shape[1])[None], inside)
    visible = inside if mask is None else inside & ~mask
    order = jnp.argsort(~visible, axis=1)  # stable: frames stay in order
    return Packing(visible, order[:, :size], jnp.arange(size) < visible.sum(1, keepdims=True))


def repeated(x: jax.Array, rows: int) -> jax.Array:
    """x (B, ...) -> (rows, ...), each row as often as it takes, copies side by side; rows is a multiple of B."""
    return x if rows == x.shape[0] else jnp.repeat(x, rows // x.shape[0], 0)  # sizes may be symbols, in an export
