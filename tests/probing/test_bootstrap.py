"""Intervals against closed forms, and figures against jiwer's."""

import jiwer
import numpy as np
import pytest

from jepa_speech.probing.bootstrap import Estimate, figure, influences, paired, ratio
from jepa_speech.probing.eer import eer
from jepa_speech.text.errors import word_errors


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


# (reference, hypothesis): silent recordings among others, most of them silent, and one word in all.
SILENT = [
    [("", "a b c"), ("early nightfall", "early night fall"), ("", ""), ("the lamps", "the lamps"), ("", "um")],
    [("", "uh")] * 9 + [("one two", "one two three")],
    [("", "x y z " * 40), ("yes", "")],
]


@pytest.mark.parametrize("pairs", SILENT)
def test_an_empty_reference_counts_its_insertions_and_is_no_division_by_zero(pairs):
    counts = np.array([word_errors(*pair) for pair in pairs])
    found = ratio(counts, samples=4000)
    assert found.value == pytest.approx(jiwer.wer(*(list(side) for side in zip(*pairs, strict=True))))
    rng, drawn = np.random.default_rng(5), []
    while len(drawn) < 4000:  # draws without a word of reference are made again
        errors, words = counts[rng.integers(len(counts), size=len(counts))].sum(0)
        drawn += [errors / words] if words else []
    np.testing.assert_allclose(found[1:], np.quantile(drawn, [0.025, 0.975]), rtol=0.15)
    assert found.low <= found.value <= found.high <= counts[:, 0].sum() * len(counts)
    assert np.isfinite(paired(counts, counts * [0, 1])).all()


def test_references_that_are_all_empty_have_no_rate():
    counts = np.array([[19, 0], [0, 0]])
    assert str(ratio(counts)) == "n/a" == str(paired(counts, counts))
    assert figure(["a", "b"], counts) == {
        "value": None,
        "low": None,
        "high": None,
        "counts": {"a": [19, 0], "b": [0, 0]},
    }


@pytest.mark.parametrize("utterances", [2, 3, 6, 60])
def test_proportions_that_are_no_ratios_stay_within_their_range(utterances):
    """Equal error rates of few recordings, whose jackknife alone leaves it; of many, both intervals are the same."""
    rng, left = np.random.default_rng(utterances), 0
    for _ in range(20):
        speakers = np.arange(utterances) % (2 if utterances < 10 else 10)
        x = rng.normal(size=(10, 3))[speakers] + rng.normal(size=(utterances, 3))
        first, second = np.triu_indices(utterances, 1)
        same, scores = speakers[first] == speakers[second], (x[first] * x[second]).sum(1)
        if same.all() or not same.any():
            continue
        value, without = eer(scores, same), []
        for u in range(utterances):
            kept = (first != u) & (second != u)
            both = same[kept].any() and not same[kept].all()
            without.append(eer(scores[kept], same[kept]) if both else value)
        counts = influences(value, without)
        bounded, plain = ratio(counts, linear=True), ratio(counts)
        left += plain.low < 0 or plain.high > 1
        assert 0 <= bounded.low <= bounded.value <= bounded.high <= 1 and bounded.value == plain.value
        if utterances == 60:
            np.testing.assert_allclose(bounded, plain, atol=0.02)
        over_runs = paired(np.stack([counts, counts]), counts * [0, 1], linear=True)
        np.testing.assert_allclose(over_runs, bounded, atol=0.03)
        difference = paired(counts, influences(1 - value, 1 - np.array(without)), linear=True)
        assert -1 <= difference.low <= difference.high <= 1
    assert left or utterances != 6  # or the test shows nothing
