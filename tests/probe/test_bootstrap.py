"""Intervals against closed forms."""

import numpy as np
import pytest

from jepa_speech.probe.bootstrap import Estimate, paired, ratio


def test_interval_of_bernoulli_utterances():
    rng = np.random.default_rng(0)
    right = rng.random(500) < 0.3
    found = ratio(np.stack([right, np.ones(500)], 1), samples=20_000)
    p = right.mean()
    half = 1.96 * np.sqrt(p * (1 - p) / 500)
    assert found.value == pytest.approx(p)
    np.testing.assert_allclose(found[1:], (p - half, p + half), atol=0.003)


def test_utterances_are_drawn_not_frames():
    """Frames that are all right or all wrong within their utterance hold no more than one frame each."""
    right = (np.arange(100) < 60).astype(float)
    few, many = (ratio(np.stack([n * right, np.full(100, n)], 1)) for n in (1, 500))
    np.testing.assert_allclose(few, many)


def test_a_pair_shares_its_utterances():
    rng = np.random.default_rng(1)
    n, right = np.full(300, 50), rng.integers(5, 45, 300)  # utterances differ much, systems little
    gain = rng.integers(0, 4, 300)
    better, worse = np.stack([right + gain, n], 1), np.stack([right, n], 1)
    found = paired(better, worse, samples=20_000)
    half = 1.96 * (gain / 50).std() / np.sqrt(300)
    assert found.value == pytest.approx((gain / 50).mean())
    np.testing.assert_allclose(found[1:], (found.value - half, found.value + half), atol=5e-4)
    alone = ratio(better)
    assert found.high - found.low < 0.2 * (alone.high - alone.low)
    np.testing.assert_allclose(paired(worse, worse), (0, 0, 0))


def test_runs_are_pooled_and_their_spread_counts():
    n = np.full(200, 10)
    low, high = np.stack([n * 0.4, n], 1), np.stack([n * 0.6, n], 1)
    found = paired(np.stack([low, high]), low)
    np.testing.assert_allclose(found, (0.1, 0.0, 0.2), atol=1e-9)  # both runs the bad one, both the good one
    with pytest.raises(ValueError, match="same utterances"):
        paired(low, high[:100])


def test_printed_in_percent():
    assert str(Estimate(0.4123, 0.4, 0.42)) == "41.2 [40.0, 42.0]"
