"""From a run's layer to centroids to labels to training on them: HuBERT's second iteration, at toy size."""

import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from support import toys
from support.clustered_audio import babble_store
from support.random_anchors import nearest
from support.toys import build

import jepa_speech
from jepa_speech import load_pretrained
from jepa_speech.anchors.load import load_anchor
from jepa_speech.api import feature_source
from jepa_speech.errors import UsageError, UserError
from jepa_speech.labelling import fit_frames
from jepa_speech.pretrained import load as pretrained
from jepa_speech.pretrained import windows
from jepa_speech.store.labels import Labels, labels_path
from jepa_speech.training.loop import train


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
    jepa_speech.fit_kmeans(store.path, out, components=5, features="layer:1", checkpoint=run, iterations=4)
    return out


@pytest.fixture
def short_windows(monkeypatch):
    """So that the longer recordings go through windows."""
    monkeypatch.setattr(windows, "PADDED_SECONDS", (1, 2))
    monkeypatch.setattr(windows, "OVERLAP_SECONDS", 1)


def test_a_layer_is_that_of_represent(store, run, short_windows):
    found = feature_source.source("layer:1", str(run)).extractor
    model = load_pretrained(run)
    for batch in found(store, range(len(store))):
        for piece, x in batch:
            expected = model.represent(store.read(piece.record), 16_000).layers[1]
            np.testing.assert_allclose(x, expected[piece.first : piece.first + piece.frames], atol=1e-5)


def test_centroids_of_a_layer_label_with_the_checkpoint_they_were_fitted_to(store, run, fitted, tmp_path):
    anchor = load_anchor(fitted)
    assert (anchor.features, anchor.components, anchor.dim) == ("layer:1", 5, 16)
    assert anchor.checkpoint == str(run.resolve())
    moved = shutil.copytree(run, tmp_path / "moved")
    results = jepa_speech.label(store.path, fitted, checkpoint=moved)
    assert (results["top_k"], results["components"]) == (1, 5)
    labels, model = Labels(store, anchor), load_pretrained(run)
    for i in range(len(store)):
        x = model.represent(store.read(i), 16_000).layers[1]
        ids, probs = labels.slice(i, 0, len(x))
        np.testing.assert_array_equal(ids[:, 0], nearest(anchor.arrays(), x))
        np.testing.assert_array_equal(probs, 1)
    assert jepa_speech.label(store.path, fitted)["already_labelled"]  # whole labels need no checkpoint


def test_another_checkpoint_is_refused(store, run, fitted, tmp_path):
    anchor = replace(load_anchor(fitted), checkpoint_fingerprint="f" * 64)
    anchor.save(tmp_path / "other.npz")
    with pytest.raises(UserError, match=r"its newest checkpoint is not the one that .*other.npz was fitted to"):
        jepa_speech.label(store.path, tmp_path / "other.npz", checkpoint=run)
    assert not labels_path(store, anchor).exists()
    model = load_pretrained(run)
    trained_on = replace(model, params=jax.tree.map(lambda x: x * 1.001, model.params))
    weights = {feature_source.layer_source(m, "layer:1", str(run)).fingerprint for m in (model, trained_on)}
    assert len(weights) == 2
    toys.toy_anchor().save(tmp_path / "gmm.npz")
    with pytest.raises(UsageError, match=r"^checkpoint = .*gmm.npz is fitted to logmel and needs none"):
        jepa_speech.label(store.path, tmp_path / "gmm.npz", checkpoint=run, top_k=2)


def test_layers_that_are_not_there_or_not_at_50_hz_are_refused(store, run, tmp_path):
    with pytest.raises(UsageError, match=r"^features = layer:3: .* has the layers 0 to 2"):
        jepa_speech.fit_kmeans(store.path, tmp_path / "km.npz", features="layer:3", checkpoint=run)

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
    out, options = tmp_path / "anchor.npz", {"components": 4, "iterations": 2, "normalize": "mean"}
    jepa_speech.fit_gmm(store.path, out, features="layer:2", checkpoint=run, **options)
    anchor = load_anchor(out)
    assert (anchor.features, anchor.normalize, anchor.dim) == ("layer:2", "mean", 16)
    jepa_speech.label(store.path, out, top_k=4)
    assert Labels(store, anchor).top_k == 4
    np.testing.assert_allclose(anchor.shift, 0, atol=1e-2)
    monkeypatch.setattr(fit_frames, "IN_MEMORY_BYTES", 0)
    jepa_speech.fit_kmeans(store.path, out, features="layer:2", checkpoint=run, **options)
    assert load_anchor(out).normalize == "mean"
