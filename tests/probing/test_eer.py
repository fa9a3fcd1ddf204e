"""The equal error rate against scores whose rate is known by hand."""

import numpy as np
import pytest

from jepa_speech.probing.bootstrap import influences, ratio
from jepa_speech.probing.eer import eer


@pytest.mark.parametrize(
    ("same", "different", "rate"),
    [
        ([0.9, 0.8], [0.2, 0.1], 0.0),
        ([0.2, 0.1], [0.9, 0.8], 1.0),
        ([0.9, 0.3], [0.4, 0.1], 0.5),  # from 0.4 on: one of two accepted, one of two refused
        ([0.9, 0.8, 0.3, 0.7], [0.1, 0.2, 0.4, 0.0], 0.25),
        ([0.5, 0.5], [0.5, 0.5], 0.5),  # all equal: halfway along the diagonal
        ([3, 2, 1], [2.5, 0], 0.5),  # with one of two accepted, refused falls from 2/3 to 1/3
        ([3], [2, 1, 4, 0], 0.25),
    ],
)  # fmt: skip
def test_by_hand(same, different, rate):
    scores = np.array([*same, *different])
    labels = np.arange(len(scores)) < len(same)
    assert eer(scores, labels) == pytest.approx(rate)
    assert eer(10 * scores - 3, labels) == pytest.approx(rate)  # only the order counts
    assert eer(-scores, ~labels) == pytest.approx(rate)


def test_two_normal_distributions():
    """Means d apart: Φ(−d / 2)."""
    rng = np.random.default_rng(0)
    labels = np.arange(200_000) % 2 == 0
    assert eer(rng.normal(size=200_000) + 2 * labels, labels) == pytest.approx(0.15866, abs=0.003)


def test_one_kind_of_trials_has_no_rate():
    with pytest.raises(ValueError, match="different ones"):
        eer([0.1, 0.2], [True, True])


def test_influences_of_a_mean_are_its_terms():
    """The interval of a mean by leaving out is that by its terms, and its value stays."""
    x = np.random.default_rng(0).random(50)
    counts = influences(x.mean(), [np.delete(x, i).mean() for i in range(50)])
    np.testing.assert_allclose(counts[:, 0], x)
    np.testing.assert_allclose(ratio(counts), ratio(np.stack([x, np.ones(50)], 1)))
