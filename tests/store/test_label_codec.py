import numpy as np
import pytest

from jepa_speech.store import label_codec
from jepa_speech.store.label_codec import LEVELS, decode, encode, expand


def quantise(probs):
    return np.round(LEVELS * np.cbrt(probs)).astype(np.uint8)


def frames(count, k, components=1024, seed=0):
    """Of each frame k components in any order, as many of which are kept as it happens, and the pool."""
    random = np.random.default_rng(seed)
    p = -np.sort(-random.dirichlet(np.full(components, 0.01), count), axis=1)
    ids = np.argsort(random.random((count, components)), axis=1)[:, :k].astype(np.uint16)
    kept = np.where(p >= label_codec.LEAST, p, 0)[:, :k]
    return ids, quantise(kept), quantise(1 - kept.sum(axis=1)), p, kept


@pytest.mark.parametrize(("count", "k"), [(256, 40), (1, 1), (7, 255)])
def test_a_block_comes_back_as_it_was(count, k):
    ids, levels, pool, _, _ = frames(count, k)
    found_ids, found_levels, found_pool = decode(encode(ids, levels, pool), count, k)
    np.testing.assert_array_equal(found_pool, pool)
    assert (np.diff(found_levels.astype(int), axis=1) <= 0).all()
    for row in range(count):
        there = dict(zip(ids[row], levels[row], strict=True))
        kept = found_levels[row] > 0
        assert dict(zip(found_ids[row][kept], found_levels[row][kept], strict=True)) == {
            i: level for i, level in there.items() if level
        }
        assert (found_ids[row][~kept] == found_ids[row, 0]).all()


def test_probabilities_sum_to_one_with_the_pool_and_are_near():
    _, levels, pool, _, kept = frames(500, 60)
    probs = expand(levels, pool)
    assert probs.dtype == np.float32
    left = label_codec.masses(pool) / (label_codec.masses(levels).sum(-1) + label_codec.masses(pool))
    np.testing.assert_allclose(probs.sum(-1) + left, 1, atol=1e-6)
    assert np.abs(probs - kept).max() < 0.03
    relative = np.sum(kept * np.log(np.maximum(kept, 1e-30) / np.maximum(probs, 1e-30)), -1)
    assert 0 <= relative.mean() < 5e-4
    hard = expand(np.array([[LEVELS]], np.uint8), np.array([0], np.uint8))
    np.testing.assert_array_equal(hard, 1)


def test_the_largest_ids_and_the_last_of_many_fit():
    ids = np.array([[65_535, 0, 256, 255]], np.uint16)
    levels = np.array([[9, 3, 1, 2]], np.uint8)
    found, code, _ = decode(encode(ids, levels, np.array([5], np.uint8)), 1, 4)
    assert found.tolist() == [[65_535, 0, 255, 256]]
    assert code.tolist() == [[9, 3, 2, 1]]


def test_a_damaged_block_is_an_error():
    ids, levels, pool, _, _ = frames(50, 9)
    block = encode(ids, levels, pool)
    for broken in (block[:-3], block[:40] + bytes([block[40] ^ 8]) + block[41:], b""):
        with pytest.raises(ValueError):
            decode(broken, 50, 9)
    for count, k in ((49, 9), (51, 9), (50, 1)):
        with pytest.raises(ValueError, match="a wrong size"):
            decode(block, count, k)
