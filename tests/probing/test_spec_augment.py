"""SpecAugment: the share of masked values, the others unchanged, and a warp that keeps the order of frames."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.probing.spec_augment import SpecAugment, warped

KEYS = jax.random.split(jax.random.PRNGKey(0), 64)
LENGTHS = jnp.linspace(20, 100, 64).astype(int)


def test_masks_cover_what_they_may_and_no_more():
    plain = SpecAugment(warp=0, feature_share=0.1)
    x = jnp.ones((64, 100, 40))
    kept = np.asarray(jax.jit(plain)(KEYS, x, LENGTHS))
    frames, features = (kept == 0).all(2), (kept == 0).all(1)
    np.testing.assert_array_equal(kept == 0, frames[:, :, None] | features[:, None])
    assert (frames.sum(1) <= 2 * np.minimum(40, LENGTHS // 5)).all() and (features.sum(1) <= 4 * 4).all()
    assert not frames[np.arange(100) >= np.asarray(LENGTHS)[:, None]].any()
    assert frames.sum(1).max() > 20 and features.sum(1).max() > 8
    none = dataclasses.replace(plain, time_masks=0, feature_masks=0)
    np.testing.assert_array_equal(none(KEYS, x, LENGTHS), x)


def test_a_warp_moves_frames_by_no_more_than_it_may_and_keeps_their_order():
    time = jnp.arange(100.0)[:, None]
    moved = np.asarray(jax.vmap(lambda key, length: warped(key, time, length, 5))(KEYS, LENGTHS))[..., 0]
    for row, length in zip(moved, np.asarray(LENGTHS), strict=True):
        assert row[0] == 0 and abs(row[length - 1] - (length - 1)) < 1e-3
        assert (np.diff(row[:length]) > 0).all() and np.abs(row[:length] - np.arange(length)).max() <= 5.001
    assert np.abs(moved[-1] - np.arange(100))[:100].max() > 0.01
