"""`jepa_speech.fit_gmm` and `fit_kmeans`."""

import math

import numpy as np
import pytest
import sklearn.cluster
from support.clustered_audio import babble_store

import jepa_speech
from jepa_speech.anchors import gmm, unfinished
from jepa_speech.anchors.load import load_anchor
from jepa_speech.errors import UsageError, UserError
from jepa_speech.features import spectral
from jepa_speech.labelling import fit_frames
from jepa_speech.labelling.extractors import Spectral
from jepa_speech.store.feature_means import load_means
from jepa_speech.store.labels import Labels

KINDS = pytest.mark.parametrize("fit", [jepa_speech.fit_gmm, jepa_speech.fit_kmeans])


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return babble_store(tmp_path_factory.mktemp("fit"), [0.8, 1.5, 0.6, 1.9])


def files_in(folder):
    """The names of files, but for those of locks, which stay."""
    return sorted(file.name for file in folder.iterdir() if not file.name.endswith(".jepa-speech.lock"))


def test_a_mixture_and_what_is_returned(store, tmp_path):
    options = {"components": 8, "features": "mfcc", "normalize": "mean", "perplexity": 3, "iterations": 4}
    results = jepa_speech.fit_gmm(store.path, tmp_path / "deep" / "gmm.npz", **options)
    anchor = load_anchor(tmp_path / "deep" / "gmm.npz")
    assert (anchor.components, anchor.dim, anchor.features, anchor.normalize) == (8, 39, "mfcc", "mean")
    assert results["fingerprint"] == anchor.fingerprint and results["temperature"] == anchor.temperature
    assert results["posterior_perplexity"] == pytest.approx(3, rel=1e-2)
    assert len(results["heldout_log_likelihood"]) <= 4 and 0 < results["weight_entropy"] <= 1
    assert load_means(store, "mfcc").shape == (len(store), 39)
    again = jepa_speech.fit_gmm(str(store.path), str(tmp_path / "again.npz"), **options, hours=math.inf)
    assert again["fingerprint"] == anchor.fingerprint


@KINDS
def test_an_interrupted_fit_goes_on_to_the_same_anchor(fit, store, tmp_path, monkeypatch):
    monkeypatch.setattr(fit_frames, "CHUNK_BYTES", 50 * 39 * 4)
    monkeypatch.setattr(unfinished, "SECONDS", 0.0)
    options = {"components": 8, "features": "mfcc", "iterations": 3}
    fit(store.path, tmp_path / "whole.npz", **options)
    out, chunk, left = tmp_path / "cut" / "anchor.npz", fit_frames._Chunks.__getitem__, [4]

    def interrupted(self, number):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return chunk(self, number)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fit_frames._Chunks, "__getitem__", interrupted)
        fit(store.path, out, **options)
    assert not out.exists()
    with pytest.raises(UserError, match="this unfinished fit has seed = 0, not 1: resume it with that value"):
        fit(store.path, out, **options, seed=1)
    fit(store.path, out, **options)
    assert load_anchor(out).fingerprint == load_anchor(tmp_path / "whole.npz").fingerprint
    assert files_in(out.parent) == ["anchor.metrics.jsonl", "anchor.npz", "anchor.png"]
    whole, cut = (path.read_text() for path in sorted(tmp_path.rglob("*.metrics.jsonl")))
    assert whole == cut


def test_default_is_the_papers_log_mel(store, tmp_path):
    jepa_speech.fit_gmm(store.path, tmp_path / "gmm.npz", components=8, iterations=1)
    anchor = load_anchor(tmp_path / "gmm.npz")
    assert (anchor.features, anchor.normalize, anchor.temperature) == ("logmel", "level", 1.0)
    assert np.isfinite(anchor.means).all()


@KINDS
def test_an_anchor_of_whitened_log_mel_labels(fit, store, tmp_path):
    out = tmp_path / "pca.npz"
    fit(store.path, out, components=4, features="pca", iterations=2)
    anchor = load_anchor(out)
    assert (anchor.features, anchor.rotation.shape) == ("pca", (80, 80))
    jepa_speech.label(store.path, out, top_k=1)
    ids, _ = Labels(store, anchor).slice(1, 0, 70)
    x = spectral.log_mel(store.read(1) / store.level[1])
    np.testing.assert_array_equal(ids[:, 0], gmm.posteriors(anchor.arrays(), x)[:70].argmax(-1))
    assert len(np.unique(ids)) > 1


@KINDS
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"components": 100_000}, "100000 components need at least as many frames"),
        ({"components": 0}, "components = 0: choose one above 0"),
        ({"hours": 0}, "hours = 0: choose one above 0"),
        ({"seed": -1}, "seed = -1: choose 0 or more"),
        ({"normalize": "none"}, "normalize = 'none': choose 'level' or 'mean'"),
        ({"features": "plp"}, "features = 'plp': choose logmel, "),
        ({"features": "layer:x"}, "features = 'layer:x': choose logmel, "),
        ({"features": "layer:1"}, "features = layer:1 needs checkpoint: the run folder whose layer it is"),
        ({"features": "mfcc", "checkpoint": "run"}, "checkpoint = run goes with features = layer:N, not with mfcc"),
    ],
)
def test_a_wrong_argument_is_named(fit, wrong, message, store, tmp_path):
    with pytest.raises(UsageError) as caught:
        fit(store.path, tmp_path / "anchor.npz", **({"components": 8} | wrong))
    assert str(caught.value).startswith(message) and not (tmp_path / "anchor.npz").exists()


def test_wrong_arguments_of_one_kind_are_named(store, tmp_path):
    for wrong, message in (({"perplexity": 9}, "perplexity = 9: choose "), ({"temperature": 0}, "temperature = 0: ")):
        with pytest.raises(UsageError, match=message):
            jepa_speech.fit_gmm(store.path, tmp_path / "gmm.npz", components=8, **wrong)
    with pytest.raises(UsageError, match="algorithm = 'elkan': choose 'lloyd' or 'minibatch'"):
        jepa_speech.fit_kmeans(store.path, tmp_path / "km.npz", algorithm="elkan")


def test_a_place_that_cannot_hold_the_anchor_is_refused_at_once(store, tmp_path):
    with pytest.raises(UsageError, match=r"out = .* is a folder: name a file in it"):
        jepa_speech.fit_gmm(store.path, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file is a file, not a folder"):
        jepa_speech.fit_gmm(store.path, tmp_path / "file" / "gmm.npz")
    with pytest.raises(UserError, match="nowhere"):
        jepa_speech.fit_gmm(tmp_path / "nowhere", tmp_path / "gmm.npz")
    (tmp_path / "gmm.png").write_text("of another program")
    with pytest.raises(UserError, match=r"gmm.png exists and lacks the mark"):
        jepa_speech.fit_gmm(store.path, tmp_path / "gmm.npz")


def inertia(store, anchor):
    """Mean squared distance of every frame of the store to its centroid, in features as they are."""
    total = frames = 0
    for batch in Spectral(anchor.features)(store, range(len(store))):
        for _, x in batch:
            z = (x - anchor.shift) / anchor.scale
            total += np.square(z[:, None] - anchor.centroids).sum(-1).min(-1).sum()
            frames += len(x)
    return total / frames


@pytest.mark.parametrize("algorithm", ["lloyd", "minibatch"])
def test_centroids_are_as_good_as_those_of_scikit_learn(store, tmp_path, algorithm, monkeypatch):
    options = {"components": 8, "seed": 4, "algorithm": algorithm}  # a seed of which every voice gets a centroid
    results = jepa_speech.fit_kmeans(store.path, tmp_path / "km.npz", **options)
    anchor = load_anchor(tmp_path / "km.npz")
    assert (anchor.components, anchor.dim, anchor.features, anchor.normalize) == (8, 39, "mfcc100", "level")
    np.testing.assert_array_equal(anchor.scale, 1)
    assert results["fingerprint"] == anchor.fingerprint and results["components_alive"] == 8
    assert 0 < results["usage_entropy"] <= 1
    assert len(results["heldout_inertia"]) == len(results["inertia"]) <= 20
    x = np.concatenate([x for batch in Spectral("mfcc100")(store, range(len(store))) for _, x in batch])
    oracle = sklearn.cluster.KMeans(8, n_init=3, random_state=0).fit(x)
    assert inertia(store, anchor) == pytest.approx(oracle.inertia_ / len(x), rel=0.3)  # one recording was held out

    again = jepa_speech.fit_kmeans(store.path, tmp_path / "again.npz", **options)
    assert again["fingerprint"] == anchor.fingerprint
    monkeypatch.setattr(fit_frames, "IN_MEMORY_BYTES", 0)  # every pass computes the frames again
    jepa_speech.fit_kmeans(store.path, tmp_path / "streamed.npz", **options)
    assert inertia(store, load_anchor(tmp_path / "streamed.npz")) == pytest.approx(inertia(store, anchor), rel=1e-3)


def test_kmeans_of_standardized_features_less_their_means(store, tmp_path):
    options = {"components": 8, "normalize": "mean", "standardize": True, "features": "logmel"}
    jepa_speech.fit_kmeans(store.path, tmp_path / "km.npz", **options)
    anchor = load_anchor(tmp_path / "km.npz")
    assert (anchor.normalize, anchor.features) == ("mean", "logmel")
    np.testing.assert_allclose(anchor.shift, 0, atol=1)
    assert np.ptp(anchor.scale) > 0
