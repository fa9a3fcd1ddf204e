"""From a run's layer to centroids to labels to training on them: HuBERT's second iteration, at toy size."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from support import toys
from support.clustered_audio import babble_store
from support.toys import build

from jepa_speech import load_pretrained
from jepa_speech.anchors.kmeans import assign
from jepa_speech.anchors.load import load_anchor
from jepa_speech.api import feature_source
from jepa_speech.cli import main
from jepa_speech.errors import UserError
from jepa_speech.labelling import fit_frames
from jepa_speech.pretrained import load as pretrained
from jepa_speech.pretrained import windows
from jepa_speech.store.labels import Labels, labels_path
from jepa_speech.train.loop import train


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return babble_store(tmp_path_factory.mktemp("layers"), [0.8, 2.6, 0.6, 1.9])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder after one step."""
    folder, anchor = tmp_path_factory.mktemp("run") / "run", toys.toy_anchor()
    config = toys.toy_config(train={"steps": 1, "checkpoint_every": 1}, anchor={"source": "online"})
    batch = {name: np.asarray(x) for name, x in toys.toy_batch(anchor=anchor, rows=4).items()}
    train(toys.typed(config), build(config, anchor), lambda start, stop: (b for b in [batch]), folder)
    return folder


@pytest.fixture(scope="module")
def fitted(store, run, tmp_path_factory):
    out = tmp_path_factory.mktemp("anchor") / "km.npz"
    arguments = ["fit", "kmeans", "--store", str(store.path), "--out", str(out), "--components", "5"]
    assert main([*arguments, "--features", "layer:1", "--checkpoint", str(run), "--iterations", "4"]) == 0
    return out


@pytest.fixture
def short_windows(monkeypatch):
    """So that the longer recordings go through windows."""
    monkeypatch.setattr(windows, "PADDED_SECONDS", (1, 2))
    monkeypatch.setattr(windows, "OVERLAP_SECONDS", 1)


def label(store, anchor, *options):
    return main(["label", "--store", str(store.path), "--anchor", str(anchor), *options])


def test_a_layer_is_that_of_represent(store, run, short_windows):
    found = feature_source.source("layer:1", str(run)).extractor
    model = load_pretrained(run)
    for batch in found(store, range(len(store))):
        for piece, x in batch:
            expected = model.represent(store.read(piece.record), 16_000).layers[1]
            np.testing.assert_allclose(x, expected[piece.first : piece.first + piece.frames], atol=1e-5)


def test_centroids_of_a_layer_label_with_the_checkpoint_they_were_fitted_to(store, run, fitted, tmp_path, capsys):
    anchor = load_anchor(fitted)
    assert (anchor.features, anchor.components, anchor.dim) == ("layer:1", 5, 16)
    assert anchor.checkpoint == str(run.resolve())
    moved = shutil.copytree(run, tmp_path / "moved")
    assert label(store, fitted, "--checkpoint", str(moved), "--json", str(tmp_path / "label.json")) == 0
    results = json.loads((tmp_path / "label.json").read_text())
    assert (results["top_k"], results["components"]) == (1, 5)
    labels, model = Labels(store, anchor), load_pretrained(run)
    for i in range(len(store)):
        x = model.represent(store.read(i), 16_000).layers[1]
        ids, probs = labels.slice(i, 0, len(x))
        np.testing.assert_array_equal(ids[:, 0], assign(anchor.arrays(), x))
        np.testing.assert_array_equal(probs, 1)
    capsys.readouterr()
    assert label(store, fitted) == 0  # whole labels need no checkpoint
    assert "nothing to do" in capsys.readouterr().out


def test_another_checkpoint_is_refused(store, run, fitted, tmp_path, capsys):
    anchor = replace(load_anchor(fitted), checkpoint_fingerprint="f" * 64)
    anchor.save(tmp_path / "other.npz")
    assert label(store, tmp_path / "other.npz", "--checkpoint", str(run)) == 1
    assert (
        f"its newest checkpoint is not the one that {tmp_path / 'other.npz'} was fitted to" in capsys.readouterr().err
    )
    assert not labels_path(store, anchor).exists()
    model = load_pretrained(run)
    trained_on = replace(model, params=jax.tree.map(lambda x: x * 1.001, model.params))
    weights = {feature_source.layer_source(m, "layer:1", str(run)).fingerprint for m in (model, trained_on)}
    assert len(weights) == 2
    toys.toy_anchor().save(tmp_path / "gmm.npz")
    assert label(store, tmp_path / "gmm.npz", "--checkpoint", str(run), "--top-k", "2") == 2
    assert "lives in logmel, and needs none" in capsys.readouterr().err


def test_layers_that_are_not_there_or_not_at_50_hz_are_refused(store, run, tmp_path, capsys):
    arguments = ["fit", "kmeans", "--store", str(store.path), "--out", str(tmp_path / "km.npz")]
    assert main([*arguments, "--features", "layer:3", "--checkpoint", str(run)]) == 2
    assert f"layer:3: {run} has the layers 0 to 2" in capsys.readouterr().err

    model = load_pretrained(run)

    class Slow:
        min_samples = 400

        def represent(self, params, aux_state, wave, lengths):
            layers, frames = model.objective.represent(params, aux_state, wave, lengths)
            return [layer[:, ::2] for layer in layers], frames // 2

    aux_state = pretrained.Pretrained(model.config, Slow(), model.params, model.aux_state, 1)
    with pytest.raises(UserError, match=r"layer:0 has 25 frames in 1.005 s, and labels have 50: .* 50 Hz"):
        feature_source.layer_source(aux_state, "layer:0", "run")


def test_a_mixture_of_a_layer_less_its_means_streams_or_not(store, run, tmp_path, monkeypatch):
    options = ["--features", "layer:2", "--checkpoint", str(run), "--normalize", "mean", "--components", "4"]
    out = ["--out", str(tmp_path / "anchor.npz")]
    assert main(["fit", "gmm", "--store", str(store.path), *out, *options, "--iterations", "2"]) == 0
    anchor = load_anchor(tmp_path / "anchor.npz")
    assert (anchor.features, anchor.normalize, anchor.dim) == ("layer:2", "mean", 16)
    assert label(store, tmp_path / "anchor.npz", "--top-k", "4") == 0
    assert Labels(store, anchor).top_k == 4
    np.testing.assert_allclose(anchor.shift, 0, atol=1e-2)
    monkeypatch.setattr(fit_frames, "HELD_BYTES", 0)
    assert main(["fit", "kmeans", "--store", str(store.path), *out, *options, "--iterations", "2"]) == 0
    assert load_anchor(tmp_path / "anchor.npz").normalize == "mean"
