import json

import numpy as np
import pytest
import sklearn.cluster
from support.clustered_audio import babble_store

from jepa_speech.anchors import gmm, unfinished
from jepa_speech.anchors.load import load_anchor
from jepa_speech.cli import main
from jepa_speech.features import spectral
from jepa_speech.labelling import fit_frames
from jepa_speech.labelling.extractors import Spectral
from jepa_speech.store.feature_means import load_means
from jepa_speech.store.labels import Labels


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return babble_store(tmp_path_factory.mktemp("fit"), [0.8, 1.5, 0.6, 1.9])


def fit(store, out, *options):
    return main(["fit", "gmm", "--store", str(store.path), "--out", str(out), "--components", "8", *options])


def files_in(folder):
    """The names of files, but for those of locks, which stay."""
    return sorted(file.name for file in folder.iterdir() if not file.name.endswith(".jepa-speech.lock"))


def test_fit_writes_an_anchor_and_says_what_it_is(store, tmp_path, capsys):
    out, report = tmp_path / "deep" / "gmm.npz", tmp_path / "report.json"
    options = ["--features", "mfcc", "--normalize", "mean", "--perplexity", "3", "--iterations", "4"]
    assert fit(store, out, *options, "--json", str(report)) == 0
    anchor, results = load_anchor(out), json.loads(report.read_text())
    assert (anchor.components, anchor.dim, anchor.features, anchor.normalize) == (8, 39, "mfcc", "mean")
    assert results["fingerprint"] == anchor.fingerprint
    assert results["temperature"] == anchor.temperature
    assert results["posterior_perplexity"] == pytest.approx(3, rel=1e-2)
    assert len(results["heldout_log_likelihood"]) <= 4
    assert 0 < results["weight_entropy"] <= 1
    assert load_means(store, "mfcc").shape == (len(store), 39)
    shown = capsys.readouterr()
    assert "8 alive of 8" in shown.out
    for bar in ("means", "features", "EM"):
        assert "100%" in shown.err.rsplit(f"{bar}: ", 1)[1], bar

    rows = [json.loads(line) for line in (out.parent / "gmm.metrics.jsonl").read_text().splitlines()]
    assert [row["pass"] for row in rows] == list(range(len(rows)))
    assert [row["heldout"] for row in rows[1:]] == results["heldout_log_likelihood"]
    assert rows[-1]["temperature"] == anchor.temperature
    assert rows[-1]["alive"] == 8
    assert files_in(out.parent) == ["gmm.metrics.jsonl", "gmm.npz", "gmm.png"]

    assert fit(store, tmp_path / "again.npz", *options, "--hours", "all") == 0
    assert load_anchor(tmp_path / "again.npz").fingerprint == anchor.fingerprint


@pytest.mark.parametrize("kind", ["gmm", "kmeans"])
def test_an_interrupted_fit_goes_on_to_the_same_anchor(store, tmp_path, capsys, monkeypatch, kind):
    monkeypatch.setattr(fit_frames, "CHUNK_BYTES", 50 * 39 * 4)
    monkeypatch.setattr(unfinished, "SECONDS", 0.0)
    options = ["fit", kind, "--store", str(store.path), "--components", "8", "--features", "mfcc", "--iterations", "3"]
    assert main([*options, "--out", str(tmp_path / "whole.npz")]) == 0
    out, chunk, left = tmp_path / "cut" / "anchor.npz", fit_frames._Chunks.__getitem__, [4]

    def interrupted(self, number):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return chunk(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(fit_frames._Chunks, "__getitem__", interrupted)
        assert main([*options, "--out", str(out)]) == 130
    assert not out.exists()
    capsys.readouterr()
    assert main([*options, "--out", str(out), "--seed", "1"]) == 1
    assert "an unfinished fit with seed = 0, not 1: run that again, or remove it" in capsys.readouterr().err
    assert main([*options, "--out", str(out)]) == 0
    assert load_anchor(out).fingerprint == load_anchor(tmp_path / "whole.npz").fingerprint
    assert files_in(out.parent) == ["anchor.metrics.jsonl", "anchor.npz", "anchor.png"]
    whole, cut = (path.read_text() for path in sorted(tmp_path.rglob("*.metrics.jsonl")))
    assert whole == cut


def test_default_is_the_papers_log_mel(store, tmp_path):
    assert fit(store, tmp_path / "gmm.npz", "--iterations", "1") == 0
    anchor = load_anchor(tmp_path / "gmm.npz")
    assert (anchor.features, anchor.normalize, anchor.temperature) == ("logmel", "level", 1.0)
    assert np.isfinite(anchor.means).all()


@pytest.mark.parametrize("kind", ["gmm", "kmeans"])
def test_an_anchor_of_whitened_log_mel_labels(store, tmp_path, kind):
    out = tmp_path / "pca.npz"
    options = ["--components", "4", "--features", "pca", "--iterations", "2", "--out", str(out)]
    assert main(["fit", kind, "--store", str(store.path), *options]) == 0
    anchor = load_anchor(out)
    assert (anchor.features, anchor.rotation.shape) == ("pca", (80, 80))
    assert main(["label", "--store", str(store.path), "--anchor", str(out), "--top-k", "1"]) == 0
    ids, _ = Labels(store, anchor).slice(1, 0, 70)
    x = spectral.log_mel(store.read(1) / store.level[1])
    np.testing.assert_array_equal(ids[:, 0], gmm.posteriors(anchor.arrays(), x)[:70].argmax(-1))
    assert len(np.unique(ids)) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--components", "100000"], "100000 components need at least as many frames"),
        (["--components", "0"], "components = 0"),
        (["--perplexity", "9"], "perplexity = 9"),
        (["--temperature", "0"], "temperature = 0"),
        (["--seed", "-1"], "seed = -1"),
        (["--features", "plp"], "plp"),
    ],
)
def test_what_cannot_be_is_refused(store, tmp_path, capsys, options, message):
    assert fit(store, tmp_path / "gmm.npz", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "gmm.npz").exists()


def test_a_place_that_cannot_hold_the_anchor_is_refused_at_once(store, tmp_path, capsys):
    assert fit(store, tmp_path) == 2
    assert "is a folder" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert fit(store, tmp_path / "file" / "gmm.npz") == 2
    assert "file is a file, not a folder" in capsys.readouterr().err


def test_a_missing_store_is_named(tmp_path, capsys):
    arguments = ["fit", "gmm", "--store", str(tmp_path / "nowhere"), "--out", str(tmp_path / "gmm.npz")]
    assert main(arguments) == 1
    assert "nowhere" in capsys.readouterr().err


def fit_kmeans(store, out, *options):
    options = ["--components", "8", "--seed", "4", *options]  # a seed of which every voice gets a centroid
    return main(["fit", "kmeans", "--store", str(store.path), "--out", str(out), *options])


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
def test_fit_kmeans_writes_centroids_and_says_what_they_are(store, tmp_path, capsys, algorithm, monkeypatch):
    out, report = tmp_path / "km.npz", tmp_path / "report.json"
    assert fit_kmeans(store, out, "--algorithm", algorithm, "--json", str(report)) == 0
    anchor, results = load_anchor(out), json.loads(report.read_text())
    assert (anchor.components, anchor.dim, anchor.features, anchor.normalize) == (8, 39, "mfcc100", "level")
    np.testing.assert_array_equal(anchor.scale, 1)
    assert results["fingerprint"] == anchor.fingerprint
    assert results["components_alive"] == 8
    assert 0 < results["usage_entropy"] <= 1
    assert len(results["heldout_inertia"]) == len(results["inertia"]) <= 20
    assert "8 alive of 8" in capsys.readouterr().out
    x = np.concatenate([x for batch in Spectral("mfcc100")(store, range(len(store))) for _, x in batch])
    oracle = sklearn.cluster.KMeans(8, n_init=3, random_state=0).fit(x)
    assert inertia(store, anchor) == pytest.approx(oracle.inertia_ / len(x), rel=0.3)  # one recording was held out

    assert fit_kmeans(store, tmp_path / "again.npz", "--algorithm", algorithm) == 0
    assert load_anchor(tmp_path / "again.npz").fingerprint == anchor.fingerprint
    monkeypatch.setattr(fit_frames, "HELD_BYTES", 0)  # nothing is held, all is computed anew in each pass
    assert fit_kmeans(store, tmp_path / "streamed.npz", "--algorithm", algorithm) == 0
    assert inertia(store, load_anchor(tmp_path / "streamed.npz")) == pytest.approx(inertia(store, anchor), rel=1e-3)


def test_kmeans_of_standardized_features_less_their_means(store, tmp_path):
    assert fit_kmeans(store, tmp_path / "km.npz", "--normalize", "mean", "--standardize", "--features", "logmel") == 0
    anchor = load_anchor(tmp_path / "km.npz")
    assert (anchor.normalize, anchor.features) == ("mean", "logmel")
    np.testing.assert_allclose(anchor.shift, 0, atol=1)
    assert np.ptp(anchor.scale) > 0


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--components", "100000"], 2, "100000 components need at least as many frames"),
        (["--hours", "0"], 2, "hours = 0"),
        (["--hours", "some"], 2, "invalid hours value: 'some'"),
        (["--features", "layer:x"], 2, "layer:x"),
        (["--features", "layer:1"], 2, "features = layer:1 needs checkpoint: the run folder"),
        (["--features", "layer:1", "--checkpoint", "nowhere"], 1, "nowhere: not a run folder"),
        (["--checkpoint", "nowhere"], 2, "checkpoint = nowhere goes with features = layer:N, not with mfcc100"),
        (["--algorithm", "elkan"], 2, "elkan"),
    ],
)
def test_what_kmeans_cannot_do_is_refused(store, tmp_path, capsys, options, code, message):
    assert fit_kmeans(store, tmp_path / "km.npz", *options) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "km.npz").exists()
