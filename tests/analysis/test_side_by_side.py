"""Figures of several checkpoints in one table, and the entropy of a head at masked frames."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from jepa_speech.analysis import cluster_plots, side_by_side
from jepa_speech.analysis.collect import same_frames
from jepa_speech.analysis.hesitation import Hesitation


def test_hesitation_by_hand():
    found = Hesitation(4)
    p = np.array([[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4])
    q = np.array([[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [1, 0, 0, 0]])
    found.add(np.array([False, True, True]), p, q)
    found.add(np.array([True]), p[2:], q[2:])
    figures, bit = found.figures(), np.log(2)
    assert figures["model"]["entropy_hidden"] == pytest.approx(5 * bit / 3) and found.share == 0.75
    assert figures["model"]["entropy_visible"] == pytest.approx(0)
    assert figures["targets"]["entropy_hidden"] == pytest.approx(bit / 3)
    assert figures["model"]["kl_hidden"] == pytest.approx(4 * bit / 3)  # KL(q ‖ p), not KL(p ‖ q), which is infinite
    assert figures["random"]["entropy_visible"] == pytest.approx(2 * bit)
    assert figures["random"]["kl_hidden"] == pytest.approx(5 * bit / 3) and figures["targets"]["kl_hidden"] == 0
    assert found.histograms["model", "hidden"].sum() == 3 and found.histograms["model", "visible"][0] == 1


def test_without_targets_or_visible_frames_only_what_is_known():
    found = Hesitation(2)
    found.add(np.array([True]), np.array([[0.5, 0.5]]), None)
    assert found.figures() == {
        "model": {"entropy_hidden": pytest.approx(np.log(2))},
        "random": {"entropy_hidden": pytest.approx(np.log(2))},
    }


class Found:
    """An analysis as far as tables need it."""

    def __init__(self, frame_rate=50.0, ranks=(3.0,), **table):
        self.table, self.ranks, self.frame_rate = table, list(ranks), frame_rate


def test_columns_that_agree_are_shown_once():
    shared, other = {"pnmi": 0.5, "usage_entropy": 0.9}, {"pnmi": 0.6, "usage_entropy": 0.9}
    found = {
        "a": Found(model={"pnmi": 0.4}, targets=shared),
        "b": Found(model={"pnmi": 0.3}, targets=shared | {"entropy_hidden": 1.0}),
        "c": Found(model={"pnmi": 0.2}, targets=other),
        "d": Found(),
    }
    shown = side_by_side.columns(found)
    assert list(shown) == ["a", "b", "c", "d", "targets of a, b", "targets of c"]
    assert shown["targets of a, b"] == shared | {"entropy_hidden": 1.0}
    assert list(found["a"].table["targets"]) == ["pnmi", "usage_entropy"]  # as it was
    lines = {line[0]: line[1:] for line in side_by_side.rows(shown)}
    assert lines["PNMI"] == ["0.400", "0.300", "0.200", "–", "0.500", "0.600"]
    assert lines["effective rank, last layer"] == ["–", "–", "–", "3.0", "–", "–"]
    assert list(side_by_side.columns({"a": found["a"]})) == ["model", "targets"]


def test_other_frame_rates_are_named():
    assert side_by_side.left_out({"a": Found(), "b": Found()}) == []
    (line,) = side_by_side.left_out({"a": Found(), "b": Found(25.0), "c": Found()})
    assert "a, c (50 frames per second) and b (25 frames per second)" in line


def test_the_same_frames_of_layers_of_unequal_length():
    x = np.arange(1000)[:, None]
    found = same_frames({"a": [x[:901], -x[:901]], "b": [x]})
    np.testing.assert_array_equal(found["a"][0], found["b"][0])
    assert len(found["b"][0]) == 200 and found["a"][1][-1] == -900
    assert len(same_frames({"a": [x[:3]]})["a"][0]) == 3


def test_an_order_puts_followers_together():
    """Two groups of clusters that follow only each other, their numbers mixed."""
    groups = np.array([0, 1, 0, 1, 1, 0])
    table = np.where(groups[:, None] == groups, 10, 0) + np.eye(6)
    table[0, 1] = 1  # a bridge, so that the order is one
    ordered = groups[cluster_plots.seriation(table)]
    assert (np.diff(ordered) != 0).sum() == 1


def test_heat_maps_stand_where_their_pair_is():
    maps = {("a", "a"): np.eye(2), ("a", "b"): np.array([[0.1, 0.2, 0.3], [0.4, 0.5, np.nan]]), ("b", "b"): np.eye(3)}
    figure = cluster_plots.cka_maps(maps, {"a": [0, 1], "b": [0, 1, 2]})
    assert isinstance(figure, Figure)
    shown = {
        (axes.get_subplotspec().rowspan.start, axes.get_subplotspec().colspan.start): axes for axes in figure.axes[:4]
    }
    np.testing.assert_allclose(shown[1, 0].images[0].get_array(), maps["a", "b"].T)  # a along x, b along y
    assert (shown[1, 0].get_xlabel(), shown[1, 0].get_ylabel()) == ("layer of a", "layer of b")
    assert not shown[0, 1].axison and not shown[0, 1].images
