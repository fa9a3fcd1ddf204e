"""Cluster figures against scikit-learn and closed forms."""

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from jepa_speech.analysis import clusters
from jepa_speech.anchors import frames
from jepa_speech.objective_parts import collapse


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    phones = rng.integers(0, 5, 3000)
    labels = np.where(rng.random(3000) < 0.6, phones * 3 + rng.integers(0, 2, 3000), rng.integers(0, 20, 3000))
    return np.array(["A", "B", "C", "D", "E"])[phones], labels


def test_pnmi_is_information_over_entropy(drawn):
    phones, labels = drawn
    table = clusters.contingency(phones, labels, 20)
    assert table.shape == (5, 20) and table.sum() == 3000
    expected = mutual_info_score(phones, labels) / mutual_info_score(phones, phones)
    assert clusters.pnmi(table) == pytest.approx(expected, rel=1e-9)
    assert clusters.pnmi(clusters.contingency(phones, np.unique(phones, return_inverse=True)[1], 20)) == pytest.approx(
        1
    )
    assert clusters.pnmi(clusters.contingency(phones, np.zeros(3000, int), 20)) == pytest.approx(0, abs=1e-12)


def test_purities_by_counting(drawn):
    phones, labels = drawn
    table = clusters.contingency(phones, labels, 20)
    commonest = {k: max(np.sum(phones[labels == k] == p) for p in set(phones)) for k in set(labels)}
    assert clusters.phone_purity(table) == pytest.approx(sum(commonest.values()) / 3000)
    commonest = {p: max(np.sum(labels[phones == p] == k) for k in set(labels)) for p in set(phones)}
    assert clusters.cluster_purity(table) == pytest.approx(sum(commonest.values()) / 3000)


def test_usage_entropy():
    assert frames.usage_entropy(np.full(64, 7)) == pytest.approx(1)
    assert frames.usage_entropy(np.array([9, 0, 0, 0])) == 0
    assert frames.usage_entropy(np.array([5, 5, 0, 0])) == pytest.approx(0.5)
    assert clusters.usage([np.array([0, 2]), np.array([2])], 4).tolist() == [1, 0, 2, 0]


def test_neighbours_are_of_one_utterance():
    labels = [np.array([1, 1, 2]), np.array([2, 2])]
    assert clusters.adjacent_consistency(labels) == pytest.approx(2 / 3)  # not 3 / 4: utterances do not touch
    assert clusters.adjacent_consistency([np.array([3])]) == 0


def test_what_follows_what():
    labels = [np.array([0, 0, 1, 2, 2, 2]), np.array([2, 0])]
    table = clusters.cooccurrence(labels, 4)
    assert table.tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [1, 0, 2, 0], [0, 0, 0, 0]]  # [i, j]: j after i
    np.testing.assert_allclose(clusters.self_transitions(table), [1 / 2, 0, 2 / 3, np.nan])
    assert clusters.self_transition(table) == pytest.approx(7 / 18)
    weighted = np.nansum(table.sum(1) * clusters.self_transitions(table)) / table.sum()
    assert weighted == pytest.approx(clusters.adjacent_consistency(labels))
    assert clusters.self_transition(clusters.cooccurrence([np.array([3])], 4)) == 0


def test_successor_perplexity():
    cycle, alone = np.roll(np.eye(5), 1, 1), np.zeros((5, 5))
    assert clusters.successor_perplexity(cycle) == pytest.approx(1) == clusters.successor_perplexity(alone)
    assert clusters.successor_perplexity(np.full((5, 5), 3)) == pytest.approx(5)
    assert clusters.successor_perplexity(np.array([[1, 1], [0, 2]])) == pytest.approx(2**0.5)


def test_label_rank():
    assert clusters.label_rank(np.full(16, 5)) == pytest.approx(15)  # one-hot vectors less their mean
    x = np.eye(3)[[0, 0, 0, 1, 1, 2]]
    assert clusters.label_rank(np.array([3, 2, 1])) == pytest.approx(
        clusters.effective_rank(np.cov(x.T, bias=True) * 6), rel=1e-9
    )
    assert clusters.label_rank(np.array([7, 0, 0])) == 1


def test_effective_rank():
    rng = np.random.default_rng(0)
    assert clusters.effective_rank(np.eye(16)) == pytest.approx(16)
    line = np.outer(rng.normal(size=500), rng.normal(size=16))
    assert clusters.effective_rank(line.T @ line) == pytest.approx(1, abs=1e-3)
    x = rng.normal(size=(300, 16)) * np.linspace(0.1, 2, 16)
    singular = np.linalg.svd(x, compute_uv=False)
    p = singular / singular.sum()
    assert clusters.effective_rank(x.T @ x) == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    assert clusters.effective_rank(np.zeros((4, 4))) == 1


def test_random_labels_know_nothing_and_are_fixed():
    labels = clusters.random_labels([5000, 5000], 8, seed=1)
    found = clusters.figures(labels, 8, [np.array(["A", "B"] * 2500)] * 2)
    assert found["usage_entropy"] > 0.999 and found["used_clusters"] == 8 and found["pnmi"] < 0.01
    assert found["adjacent_consistency"] == pytest.approx(1 / 8, abs=0.02)
    assert (labels[1] == clusters.random_labels([5000, 5000], 8, seed=1)[1]).all()


def test_silence_is_no_phone():
    phones = [np.array(["", "A", "B", ""])]
    assert clusters.figures([np.array([3, 0, 1, 3])], 4, phones)["pnmi"] == pytest.approx(1)
    assert "pnmi" not in clusters.figures([np.array([3])], 4, [np.array([""])])
    assert "pnmi" not in clusters.figures([np.array([3])], 4)


@pytest.mark.parametrize("counts", [[7.0], [3.0, 0.0], [2.0, 2.0], [0.0, 0.0, 1.0]])
def test_usage_is_a_number_however_few_clusters_there_are(counts):
    """With one cluster ln K is 0."""
    counts = np.array(counts)
    for usage in (frames.usage_entropy(counts), float(collapse.cluster_usage(counts))):
        assert 0 <= usage <= 1 + 1e-6
    assert collapse.collapsed({"cluster_usage": float(collapse.cluster_usage(np.array([7.0])))}) == ""
