"""Δ and ΔΔ of features: slope and curvature of the line and the parabola fitted to 9 frames."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

REACH = 4  # frames to each side


def with_deltas(features: jax.Array, lengths: jax.Array | int) -> jax.Array:
    """(…, T, F), valid frames (…) -> (…, T, 3F): the features, Δ, ΔΔ (`librosa.feature.delta`, mode "nearest").

    The first and the last valid frame of a row are repeated beyond its ends.
    """
    count = features.shape[-2]
    if count == 0:
        return jnp.concatenate([features] * 3, -1)
    place = jnp.arange(-REACH, count + REACH)
    place = jnp.clip(place, 0, jnp.maximum(jnp.asarray(lengths)[..., None] - 1, 0))  # (…, T + 8)
    place = jnp.broadcast_to(place, (*features.shape[:-2], count + 2 * REACH))
    held = jnp.take_along_axis(features, place[..., None], axis=-2)
    derived = [sum(w * held[..., i : i + count, :] for i, w in enumerate(weights)) for weights in delta_weights()]
    return jnp.concatenate([features, *derived], -1)


@lru_cache
def delta_weights() -> tuple[np.ndarray, np.ndarray]:
    """Returns least-squares weights over the frames -4 ... 4: a line's slope, and a parabola's second derivative."""
    time = np.arange(-REACH, REACH + 1, dtype=np.float64)
    bow = time**2 - np.mean(time**2)
    return (time / np.sum(time**2)).astype(np.float32), (2 * bow / np.sum(bow**2)).astype(np.float32)
