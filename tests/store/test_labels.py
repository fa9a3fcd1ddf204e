import errno
import json
import pickle

import jax
import numpy as np
import pytest
from support.clustered_audio import babble_store

from jepa_speech.anchors import em
from jepa_speech.anchors.gmm import frame_posteriors
from jepa_speech.anchors.sparse import kl_to_sparse, top_k
from jepa_speech.errors import UsageError, UserError
from jepa_speech.features import grid, spectral
from jepa_speech.labelling import anchoring
from jepa_speech.labelling import parts as label_parts
from jepa_speech.labelling.extractors import Spectral
from jepa_speech.labelling.fit_frames import fitting_passes
from jepa_speech.labelling.parts import LabelParts, merge_label_parts
from jepa_speech.store import label_codec
from jepa_speech.store.feature_means import load_means
from jepa_speech.store.labels import Labels, labels_path

SECONDS = [0.5, 1.0, 0.5, 2.6, 1.0]  # few shapes, few compilations
COMPONENTS, KEPT = 12, 4
LEVEL = 1.5 / label_codec.LEVELS  # p = (q / LEVELS)³ is off by half a level at most: 3 p^(2/3) / (2 LEVELS)


def fit(store, kind="mfcc", normalize="mean", seed=0):
    passes = fitting_passes(store, Spectral(kind), normalize, hours=1, seed=0, sample=1_000, standardize=True)
    options = em.Options(COMPONENTS, iterations=3, seed=seed)
    parameters = em.fit(passes.chunks(anchoring.silent), passes.sample, passes.heldout, options).parameters
    return parameters.mixture(passes.shift, passes.scale, kind, normalize, temperature=3.0)


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
        np.testing.assert_allclose(probs, expected, atol=LEVEL)
        # Of two that are rounded to one level either may be first.
        first = np.take_along_axis(np.asarray(dense(store, anchor, i)), ids[:, :1].astype(int), -1)
        np.testing.assert_allclose(first, expected[:, :1], atol=2 * LEVEL)
        same = ids == expected_ids
        assert same[:, 0].mean() > 0.95


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
    assert losses[0] == pytest.approx(losses[1], abs=1e-2)  # levels of some 0.01 times logits of some 2, in 60 frames


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
    with pytest.raises(UserError, match=f"{store.fingerprint[:12]}, not {stranger.fingerprint[:12]}"):
        Labels(stranger, anchor)
    meta = json.loads((copied / "meta.json").read_text()) | {"store": stranger.fingerprint, "anchor": "f" * 64}
    (copied / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match=f"ffffffffffff, not {anchor.fingerprint[:12]}"):
        Labels(stranger, anchor)


def test_labels_of_an_older_format_are_refused(tmp_path, anchor):
    store = babble_store(tmp_path, [0.4])
    anchoring.label(store, anchor, KEPT)
    path = labels_path(store, anchor) / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 1}))
    with pytest.raises(UserError, match="labels have format 1, not 2; run `jepa-speech label"):
        Labels(store, anchor)


@pytest.mark.parametrize("name", ["blocks.bin", "block_start.npy", "first_block.npy"])
def test_broken_labels_are_refused_by_name(tmp_path, anchor, name):
    store = babble_store(tmp_path, [0.4])
    anchoring.label(store, anchor, KEPT)
    path = labels_path(store, anchor) / name
    whole = path.read_bytes()
    for broken in (whole[:-8], b""):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=name):
            Labels(store, anchor)
    path.unlink()
    with pytest.raises(UserError, match=name):
        Labels(store, anchor)
    anchoring.label(store, anchor, KEPT)
    assert path.read_bytes() == whole


def test_a_flipped_bit_is_named_when_its_block_is_read(tmp_path, anchor):
    store = babble_store(tmp_path, [0.4, 0.4])
    anchoring.label(store, anchor, KEPT)
    path = labels_path(store, anchor) / "blocks.bin"
    data = bytearray(path.read_bytes())
    data[-20] ^= 4
    path.write_bytes(data)
    labels = Labels(store, anchor)
    assert len(labels.slice(0, 0, 10)[0]) == 10
    with pytest.raises(UserError, match="labels of recording 1 are damaged; remove them and label again"):
        labels.slice(1, 0, 1)


@pytest.mark.parametrize("k", [0, COMPONENTS + 1])
def test_more_than_the_components_cannot_be_kept(store, anchor, k):
    with pytest.raises(UsageError, match=f"top_k = {k}: choose 1 to {COMPONENTS}"):
        anchoring.label(store, anchor, k)


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(label_parts, "CHUNK_FRAMES", 40)


def left(store):
    """What there is beside locks, whose files stay."""
    return [path.name for path in (store.path / "labels").iterdir() if not path.name.endswith(".jepa-speech.lock")]


def test_what_was_written_before_a_kill_is_not_done_again(tmp_path, anchor, monkeypatch, small_chunks):
    store = babble_store(tmp_path, [0.4, 1.0, 0.7, 1.0])
    undisturbed = babble_store(tmp_path / "other", [0.4, 1.0, 0.7, 1.0])
    anchoring.label(undisturbed, anchor, KEPT)

    def interrupt(seconds):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        anchoring.label(store, anchor, KEPT, interrupt)
    with pytest.raises(UserError, match="no labels of anchor"):
        Labels(store, anchor)

    write, written = LabelParts.write, []

    def full(self, number, *arguments):
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(number)
        write(self, number, *arguments)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left on device"):
        patch.setattr(LabelParts, "write", full)
        anchoring.label(store, anchor, KEPT)
    with pytest.raises(UserError, match="no labels of anchor"):
        Labels(store, anchor)

    seconds = []
    anchoring.label(store, anchor, KEPT, seconds.append)
    assert 0 < sum(seconds) < anchoring.seconds_of(store) - 0.3
    assert contents(labels_path(store, anchor)) == contents(labels_path(undisturbed, anchor))
    assert left(store) == [anchor.fingerprint[:12]]


def test_parts_are_joined_to_what_one_run_writes(tmp_path, anchor, small_chunks):
    """And a part that is missing is named; chunks are the store's, however many parts there are."""
    stores = [babble_store(tmp_path / name, SECONDS) for name in ("one", "parts")]
    figures = anchoring.label(stores[0], anchor, KEPT)
    assert merge_label_parts(stores[0]) == []
    assert [list(chunk) for chunk in label_parts.chunks(stores[0])] == [[0, 1], [2], [3], [4]]
    for i in (2, 0):
        assert anchoring.label(stores[1], anchor, KEPT, part=(i, 3)) is None
    with pytest.raises(UserError, match=r"part 1/3 is unfinished; run `jepa-speech label` with --part 1/3"):
        merge_label_parts(stores[1])
    with pytest.raises(UserError, match="no labels of anchor"):
        Labels(stores[1], anchor)
    anchoring.label(stores[1], anchor, KEPT, part=(1, 3))
    assert merge_label_parts(stores[1]) == [labels_path(stores[1], anchor)]
    assert contents(labels_path(stores[1], anchor)) == contents(labels_path(stores[0], anchor))
    assert {name: Labels(stores[1], anchor).meta[name] for name in figures} == figures
    assert merge_label_parts(stores[1]) == []


def test_chunks_that_were_cut_otherwise_are_made_again(tmp_path, anchor, monkeypatch):
    store = babble_store(tmp_path, [0.4, 1.0, 0.7])
    with monkeypatch.context() as patch:
        patch.setattr(label_parts, "CHUNK_FRAMES", 40)
        anchoring.label(store, anchor, KEPT, part=(0, 2))
    anchoring.label(store, anchor, KEPT)
    frames = [grid.frames(int(samples)) for samples in store.samples]
    assert [len(Labels(store, anchor).slice(i, 0, 99)[0]) for i in range(3)] == frames


def test_chunks_of_another_store_are_no_parts_of_this_one(tmp_path, anchor):
    store = babble_store(tmp_path / "a", [0.4])
    anchoring.label(store, anchor, KEPT, part=(0, 2))
    other = babble_store(tmp_path / "b", [0.4], seed=9)
    (store.path / "labels").rename(other.path / "labels")
    assert merge_label_parts(other) == []
    assert left(other) == []
