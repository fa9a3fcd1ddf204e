"""`fit --curve`: held-out likelihood and agreement of labels over the hours."""

import json

import numpy as np
import pytest
from support.clustered_audio import babble_store
from support.random_anchors import make_gmm

from jepa_speech.anchors.kmeans import KMeans
from jepa_speech.anchors.load import load_anchor
from jepa_speech.api.fit_curve import compare
from jepa_speech.cli import main


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return babble_store(tmp_path_factory.mktemp("curve"), [2.0] * 40)


def fit(store, out, kind="gmm", *more):
    hours = store.hours
    curve = ["--curve", f"{hours / 4:.6f}", f"{hours * 0.999:.6f}"]
    options = ["--components", "4", "--iterations", "3", "--features", "mfcc", *curve, *more]
    return main(["fit", kind, "--store", str(store.path), "--out", str(out), *options])


@pytest.mark.parametrize("kind", ["gmm", "kmeans"])
def test_two_seeds_at_each_number_of_hours(kind, store, tmp_path, capsys):
    assert fit(store, tmp_path / "a.npz", kind) == 0
    rows = [json.loads(line) for line in (tmp_path / "a.curve.jsonl").read_text().splitlines()]
    assert [row["hours"] for row in rows] == pytest.approx([store.hours / 4, store.hours], rel=0.01)
    assert all(0.25 <= row["agreement"] <= 1 for row in rows)  # of 4 components, matched at least that well
    anchors = sorted((tmp_path / "a.curve").glob("*.npz"))
    assert len({load_anchor(path).fingerprint for path in anchors}) == len(anchors) == 4
    assert (tmp_path / "a.curve.png").read_bytes()[:4] == b"\x89PNG" and not (tmp_path / "a.npz").exists()
    assert "same label" in capsys.readouterr().out


def test_what_is_there_is_not_fitted_again_and_other_options_are_refused(store, tmp_path, capsys):
    assert fit(store, tmp_path / "a.npz") == 0
    first = (tmp_path / "a.curve.jsonl").read_bytes()
    (removed, *kept) = sorted((tmp_path / "a.curve").glob("*.npz"))
    removed.unlink()
    times = [path.stat().st_mtime_ns for path in kept]
    assert fit(store, tmp_path / "a.npz") == 0
    assert [path.stat().st_mtime_ns for path in kept] == times
    assert removed.is_file() and (tmp_path / "a.curve.jsonl").read_bytes() == first
    assert fit(store, tmp_path / "a.npz", "gmm", "--normalize", "mean") == 1
    assert "a.curve: of another normalize (level)" in capsys.readouterr().err


def test_hours_that_are_not_there(store, tmp_path, capsys):
    assert fit(store, tmp_path / "a.npz", "gmm", "--curve", "0.01", "99") == 2
    assert "hours = 99: choose hours above 0, up to the" in capsys.readouterr().err


def test_the_figures_are_those_of_scikit_learn():
    x = np.random.default_rng(0).normal(size=(500, 39)).astype(np.float32) * 3
    anchor = make_gmm(components=6, dim=39)
    row = compare([anchor, anchor], x)
    assert row["agreement"] == 1
    assert row["first"] == pytest.approx(anchor.to_sklearn().score(x), abs=1e-3)
    centroids = np.random.default_rng(1).normal(size=(5, 39)).astype(np.float32)
    same = {"features": "mfcc", "shift": np.ones(39, np.float32), "scale": np.ones(39, np.float32)}
    first, second = KMeans(centroids=centroids, **same), KMeans(centroids=centroids[::-1], **same)
    row = compare([first, second], x)
    nearest = np.square(x[:, None] - 1 - centroids).sum(-1).min(1)
    assert row["agreement"] == 1  # the same centroids by other numbers
    assert row["first"] == row["second"] == pytest.approx(nearest.mean(), rel=1e-5)
