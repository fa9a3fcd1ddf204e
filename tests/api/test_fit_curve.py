"""`jepa_speech.fit_curve`: held-out likelihood and agreement of labels over the hours."""

import json

import numpy as np
import pytest
from support.clustered_audio import babble_store
from support.random_anchors import make_gmm

import jepa_speech
from jepa_speech.anchors.kmeans import KMeans
from jepa_speech.anchors.load import load_anchor
from jepa_speech.api.fit_curve import compare
from jepa_speech.errors import UsageError, UserError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return babble_store(tmp_path_factory.mktemp("curve"), [2.0] * 40)


def curve(store, out, kind="gmm", **more):
    hours = [store.hours / 4, round(store.hours * 0.999, 6)]
    return jepa_speech.fit_curve(kind, store.path, out, hours, components=4, iterations=3, features="mfcc", **more)


@pytest.mark.parametrize("kind", ["gmm", "kmeans"])
def test_two_seeds_at_each_number_of_hours(kind, store, tmp_path):
    results = curve(store, tmp_path / "a.npz", kind)
    rows = [json.loads(line) for line in (tmp_path / "a.curve.jsonl").read_text().splitlines()]
    assert [row["hours"] for row in rows] == pytest.approx([store.hours / 4, store.hours], rel=0.01)
    assert all(0.25 <= row["agreement"] <= 1 for row in rows)  # of 4 components, matched at least that well
    assert results["curve"] == rows and results["plot"] == str(tmp_path / "a.curve.png")
    anchors = sorted((tmp_path / "a.curve").glob("*.npz"))
    assert len({load_anchor(path).fingerprint for path in anchors}) == len(anchors) == 4
    assert (tmp_path / "a.curve.png").read_bytes()[:4] == b"\x89PNG" and not (tmp_path / "a.npz").exists()

    removed, *kept = anchors  # what is there is not fitted again
    removed.unlink()
    times = [path.stat().st_mtime_ns for path in kept]
    assert curve(store, tmp_path / "a.npz", kind) == results
    assert [path.stat().st_mtime_ns for path in kept] == times and removed.is_file()
    with pytest.raises(UserError, match=r"a.curve: was made with another normalize \(level\)"):
        curve(store, tmp_path / "a.npz", kind, normalize="mean")


def test_wrong_arguments_are_refused_before_anything_is_written(store, tmp_path):
    for hours in ([0.01, 99], [0.0], []):
        with pytest.raises(UsageError, match="choose hours above 0, up to the"):
            jepa_speech.fit_curve("gmm", store.path, tmp_path / "a.npz", hours)
    with pytest.raises(UsageError, match="kind = 'pca': choose 'gmm' or 'kmeans'"):
        jepa_speech.fit_curve("pca", store.path, tmp_path / "a.npz", [0.01])
    with pytest.raises(UsageError, match="algorithm = 'elkan'"):
        curve(store, tmp_path / "a.npz", "kmeans", algorithm="elkan")
    with pytest.raises(TypeError, match="algorithm"):  # k-means alone has it
        curve(store, tmp_path / "a.npz", algorithm="lloyd")
    assert not list(tmp_path.iterdir())


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
