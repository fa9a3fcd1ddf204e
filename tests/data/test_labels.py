import errno
import json
import pickle

import jax
import numpy as np
import pytest
from babble import babble_store

from jepa_speech.anchors import em
from jepa_speech.anchors.frames import shift_and_scale
from jepa_speech.anchors.gmm import frame_posteriors
from jepa_speech.anchors.sparse import kl_to_sparse, top_k
from jepa_speech.data import anchoring
from jepa_speech.data.extractors import Spectral
from jepa_speech.data.feature_means import load_means
from jepa_speech.data.fitting import fitting_frames
from jepa_speech.data.labels import Labels, LabelWriter, labels_path
from jepa_speech.errors import UsageError, UserError
from jepa_speech.features import grid, spectral

SECONDS = [0.5, 1.0, 0.5, 2.6, 1.0]  # few shapes, few compilations
COMPONENTS, KEPT = 12, 4


def fit(store, kind="mfcc", normalize="mean", seed=0):
    frames = fitting_frames(store, Spectral(kind), normalize, hours=1, seed=0)
    shift, scale = shift_and_scale(frames.train)
    z = ((frames.x - shift) / scale).astype(np.float32)
    parameters = em.fit(z, z[:10], em.Options(COMPONENTS, iterations=3, seed=seed)).parameters
    return parameters.mixture(shift, scale, kind, normalize, temperature=3.0)


online_posteriors = jax.jit(frame_posteriors, static_argnums=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return babble_store(tmp_path_factory.mktemp("labels"), SECONDS)


@pytest.fixture(scope="module")
def anchor(store):
    return fit(store)


@pytest.fixture(scope="module")
def labels(store, anchor):
    anchoring.label(store, anchor, KEPT)
    return Labels(store, anchor)


def dense(store, anchor, i, start=0, samples=None):
    """Posteriors computed from a recording or a crop of it, as the training step computes them."""
    mean = load_means(store, anchor.features)[i] if anchor.normalize == "mean" else None
    return frame_posteriors(anchor.arrays(), anchor.features, store.read(i, start, samples) / store.level[i], mean)


def test_labels_are_the_posteriors_of_the_whole_recording(store, anchor, labels):
    for i in range(len(store)):
        frames = grid.frames(int(store.samples[i]))
        ids, probs = labels.slice(i, 0, frames)
        assert (ids.shape, ids.dtype, probs.dtype) == ((frames, KEPT), np.uint16, np.float32)
        expected_ids, expected = top_k(dense(store, anchor, i), KEPT)
        np.testing.assert_allclose(probs, expected, atol=2e-4)
        np.testing.assert_array_equal(ids[:, 0], expected_ids[:, 0])


@pytest.mark.parametrize(("kind", "normalize"), [("mfcc", "mean"), ("mfcc100", "level"), ("logmel", "level")])
def test_stored_and_online_give_the_same_loss_on_a_crop(store, kind, normalize):
    """But for the frames at its edges where deltas would see beyond the crop."""
    anchor = fit(store, kind, normalize)
    anchoring.label(store, anchor, KEPT)
    first, frames = 13, 60
    online = top_k(dense(store, anchor, 3, first * grid.HOP, grid.samples(frames)), KEPT)
    stored = Labels(store, anchor.fingerprint).slice(3, first, frames)
    edge = spectral.delta_edge(kind)
    inner = slice(edge, frames - edge)
    log_q = jax.nn.log_softmax(np.random.default_rng(0).normal(size=(frames, COMPONENTS), scale=2))
    losses = [float(kl_to_sparse(ids[inner], probs[inner], log_q[inner]).mean()) for ids, probs in (online, stored)]
    assert losses[0] == pytest.approx(losses[1], abs=2e-4)


def test_a_slice_ends_with_its_recording(store, labels):
    frames = grid.frames(int(store.samples[0]))
    assert len(labels.slice(0, frames - 3, 10)[0]) == 3
    np.testing.assert_array_equal(labels.slice(0, 5, 4)[0], labels.slice(0, 0, frames)[0][5:9])


def test_what_is_measured(store, anchor):
    whole = anchoring.label(store, anchor, COMPONENTS)
    assert whole["mean_kept_mass"] == pytest.approx(1, abs=1e-5)
    assert abs(whole["mean_kl_dense_to_stored"]) < 1e-3
    measured = anchoring.label(store, anchor, KEPT)
    p = np.concatenate([np.asarray(dense(store, anchor, i), np.float64) for i in range(len(store))])
    kept = np.sort(p, axis=-1)[:, ::-1][:, :KEPT]
    spread = np.maximum(1 - kept.sum(-1), 1e-7) / (COMPONENTS - KEPT)
    stored = np.concatenate([kept, np.repeat(spread[:, None], COMPONENTS - KEPT, axis=1)], axis=1)
    full = np.sort(p, axis=-1)[:, ::-1]
    assert measured["mean_kept_mass"] == pytest.approx(kept.sum(-1).mean(), abs=1e-5)
    assert measured["mean_kl_dense_to_stored"] == pytest.approx(
        np.sum(full * np.log((full + 1e-30) / (stored + 1e-30)), -1).mean(), abs=1e-3
    )
    assert measured["posterior_entropy"] == pytest.approx(-np.sum(p * np.log(p + 1e-30), -1).mean(), abs=1e-4)


def test_they_travel_to_worker_processes(labels):
    again = pickle.loads(pickle.dumps(labels))
    assert len(pickle.dumps(labels)) < 1_000
    np.testing.assert_array_equal(again.slice(1, 0, 9)[0], labels.slice(1, 0, 9)[0])


def test_labels_of_another_anchor_or_store_are_refused_by_name(store, anchor, labels, tmp_path):
    other = fit(store, seed=1)
    with pytest.raises(UserError, match=f"no labels of anchor {other.fingerprint[:12]} .*{anchor.fingerprint[:12]}"):
        Labels(store, other)
    stranger = babble_store(tmp_path, SECONDS, seed=50)
    with pytest.raises(UserError, match="it has none"):
        Labels(stranger, anchor)
    copied = labels_path(stranger, anchor)
    copied.mkdir(parents=True)
    for file in labels.path.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UserError, match=f"{store.fingerprint[:12]}, not of {stranger.fingerprint[:12]}"):
        Labels(stranger, anchor)
    meta = json.loads((copied / "meta.json").read_text()) | {"store": stranger.fingerprint, "anchor": "f" * 64}
    (copied / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match=f"ffffffffffff, not of {anchor.fingerprint[:12]}"):
        Labels(stranger, anchor)


def test_broken_labels_are_refused_by_name(tmp_path, anchor):
    store = babble_store(tmp_path, [0.4])
    anchoring.label(store, anchor, KEPT)
    path = labels_path(store, anchor) / "probs.npy"
    whole = path.read_bytes()
    for broken in (whole[:-8], b""):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"probs\.npy"):
            Labels(store, anchor)
    path.unlink()
    with pytest.raises(UserError, match=r"probs\.npy"):
        Labels(store, anchor)
    anchoring.label(store, anchor, KEPT)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("k", [0, COMPONENTS + 1])
def test_more_than_the_components_cannot_be_kept(store, anchor, k):
    with pytest.raises(UsageError, match=f"--top-k {k}: choose 1 to {COMPONENTS}"):
        anchoring.label(store, anchor, k)


def test_nothing_half_written_passes_for_whole(tmp_path, anchor, monkeypatch):
    store = babble_store(tmp_path, [0.4, 0.7])

    def interrupt(seconds):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        anchoring.label(store, anchor, KEPT, interrupt)
    assert not list((store.path / "labels").iterdir())

    killed = LabelWriter(store, anchor, COMPONENTS, KEPT).__enter__()  # and no exit
    killed.put(0, 0, np.zeros((3, KEPT)), np.zeros((3, KEPT)), np.zeros(3))
    with pytest.raises(UserError, match="no labels of anchor"):
        Labels(store, anchor)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left on device"):
        patch.setattr(LabelWriter, "put", full)
        anchoring.label(store, anchor, KEPT)
    for file, _ in killed._files.values():
        file.close()

    anchoring.label(store, anchor, KEPT)
    assert Labels(store, anchor).slice(1, 0, 5)[1].sum() > 0
    assert [path.name for path in (store.path / "labels").iterdir()] == [anchor.fingerprint[:12]]
