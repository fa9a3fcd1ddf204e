"""SpecAugment (Park et al. 2019, arXiv 1904.08779) on the features that a probe reads, one draw a row.

A time warp, then masks in time and in features. What is masked becomes 0: the mean, where features are standardised.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class SpecAugment:
    """As in SUPERB's ASR probe, with its feature masks, of at most 50 of 768 dimensions, as a share of the width.

    warp: frames by which a point is shifted at most. time_masks of at most time_frames, and of a fifth of the row.
    """

    warp: int = 5
    time_masks: int = 2
    time_frames: int = 40
    feature_masks: int = 4
    feature_share: float = 50 / 768

    def __call__(self, keys: jax.Array, x: jax.Array, lengths: jax.Array) -> jax.Array:
        """keys (B,), x (B, T, D), lengths (B,) -> (B, T, D)."""
        return jax.vmap(self.row)(keys, x, lengths)

    def row(self, key: jax.Array, x: jax.Array, length: jax.Array) -> jax.Array:
        """x (T, D) of which `length` frames are valid."""
        warp_key, time_key, feature_key = jax.random.split(key, 3)
        x = warped(warp_key, x, length, self.warp) if self.warp else x
        longest = jnp.minimum(self.time_frames, length // 5)
        hidden = masked(time_key, self.time_masks, x.shape[0], length, longest)[:, None]
        width = x.shape[1]
        hidden |= masked(feature_key, self.feature_masks, width, width, round(self.feature_share * width))
        return jnp.where(hidden, 0, x)


def masked(key: jax.Array, masks: int, size: int, length: jax.Array | int, longest: jax.Array | int) -> jax.Array:
    """(size,) True in `masks` spans of U{0, ..., longest}, each anywhere within `length`."""
    draw = jax.random.uniform(key, (2, masks, 1))
    spans = jnp.floor(draw[0] * (longest + 1))
    starts = jnp.floor(draw[1] * (length - spans + 1))
    place = jnp.arange(size)
    return ((place >= starts) & (place < starts + spans)).any(0)


def warped(key: jax.Array, x: jax.Array, length: jax.Array, most: int) -> jax.Array:
    """Some frame of x (T, D) moves by up to `most`; those before and behind it are stretched, the ends stay."""
    point, shift = jax.random.uniform(key, (2,))
    room = jnp.maximum(length - 1 - 2 * most, 0)
    middle = jnp.minimum(most + point * room, (length - 1) / 2 + room)  # a short row moves its middle
    moved = jnp.clip(middle + (2 * shift - 1) * most, 1, jnp.maximum(length - 2, 1))
    last = length - 1.0
    source = jnp.interp(jnp.arange(len(x)), jnp.stack([0.0, moved, last]), jnp.stack([0.0, middle, last]))
    low = jnp.floor(source).astype(int)
    share = (source - low)[:, None]
    return (1 - share) * x[low] + share * x[jnp.minimum(low + 1, len(x) - 1)]
