"""SpecAugment (Park et al. 2019, arXiv 1904.08779) on the features of a probe: a time warp, and masks.

Masks are in time and in features. Masked values become 0, the mean of standardised features.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class SpecAugment:
    """Options as in SUPERB's ASR probe, with its feature masks (up to 50 of 768 dimensions) as a share of the width.

    warp: most frames by which a point is shifted. A time mask has at most `time_frames`, and a fifth of the row.
    """

    warp: int = 5
    time_masks: int = 2
    time_frames: int = 40
    feature_masks: int = 4
    feature_share: float = 50 / 768

    def __call__(self, keys: jax.Array, x: jax.Array, lengths: jax.Array) -> jax.Array:
        """Augments x (B, T, D) with lengths (B,) by keys (B,)."""
        return jax.vmap(self.row)(keys, x, lengths)

    def row(self, key: jax.Array, x: jax.Array, length: jax.Array) -> jax.Array:
        """Augments x (T, D), of which `length` frames are valid."""
        warp_key, time_key, feature_key = jax.random.split(key, 3)
        x = warped(warp_key, x, length, self.warp) if self.warp else x
        longest = jnp.minimum(self.time_frames, length // 5)
        hidden = masked(time_key, self.time_masks, x.shape[0], length, longest)[:, None]
        width = x.shape[1]
        hidden |= masked(feature_key, self.feature_masks, width, width, round(self.feature_share * width))
        return jnp.where(hidden, 0, x)


def masked(key: jax.Array, masks: int, size: int, length: jax.Array | int, longest: jax.Array | int) -> jax.Array:
    """Returns (size,) with True in `masks` spans of U{0, ..., longest}, each anywhere within `length`."""
    draw = jax.random.uniform(key, (2, masks, 1))
    spans = jnp.floor(draw[0] * (longest + 1))
    starts = jnp.floor(draw[1] * (length - spans + 1))
    place = jnp.arange(size)
    return ((place >= starts) & (place < starts + spans)).any(0)


def warped(key: jax.Array, x: jax.Array, length: jax.Array, most: int) -> jax.Array:
    """Shifts a random frame of x (T, D) by up to `most`, and stretches the frames before and after it."""
    point, shift = jax.random.uniform(key, (2,))
    choices = jnp.maximum(length - 1 - 2 * most, 0)
    middle = jnp.minimum(most + point * choices, (length - 1) / 2 + choices)  # in a short row, the middle is shifted
    moved = jnp.clip(middle + (2 * shift - 1) * most, 1, jnp.maximum(length - 2, 1))
    last = length - 1.0
    source = jnp.interp(jnp.arange(len(x)), jnp.stack([0.0, moved, last]), jnp.stack([0.0, middle, last]))
    low = jnp.floor(source).astype(int)
    share = (source - low)[:, None]
    return (1 - share) * x[low] + share * x[jnp.minimum(low + 1, len(x) - 1)]
