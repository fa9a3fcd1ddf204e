from dataclasses import replace

import jax
import numpy as np
import pytest
from support.clustered_audio import babble_store
from support.random_anchors import make_gmm, make_kmeans, nearest

from jepa_speech.errors import UsageError, UserError
from jepa_speech.features import grid, spectral
from jepa_speech.labelling import anchoring, utterances
from jepa_speech.labelling.extractors import Spectral, WholeRecordings
from jepa_speech.store.feature_means import load_means, means_path
from jepa_speech.store.labels import Labels

SECONDS = [0.5, 1.0, 0.5, 2.6, 1.0, 0.03]  # few shapes, few compilations
extract = jax.jit(spectral.extract, static_argnums=0)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return babble_store(tmp_path_factory.mktemp("anchoring"), SECONDS)


@pytest.fixture
def short_buckets(monkeypatch):
    """So that the longer recordings are cut, and a batch holds few rows."""
    monkeypatch.setattr(utterances, "BUCKETS", (20, 40))
    monkeypatch.setattr(utterances, "_BATCH_FRAMES", 80)


@pytest.mark.parametrize("frames", [0, 1, 39, 40, 41, 64, 65, 500])
def test_pieces_hold_every_frame_once(short_buckets, frames):
    cut = list(utterances.pieces(7, frames))
    assert [t for piece in cut for t in range(piece.first, piece.first + piece.frames)] == list(range(frames))
    for piece in cut:
        assert piece.record == 7
        assert piece.row_frames <= 40
        assert piece.first - piece.lead >= 0
        assert piece.first + piece.frames + piece.trail <= frames


@pytest.mark.parametrize("kind", spectral.DIMS)
def test_features_are_those_of_the_whole_recording(store, short_buckets, kind):
    found = {i: np.full((grid.frames(int(store.samples[i])), spectral.DIMS[kind]), np.nan) for i in range(len(store))}
    seconds = []
    for batch in Spectral(kind)(store, range(len(store))):
        for piece, values in batch:
            found[piece.record][piece.first : piece.first + piece.frames] = values
        assert batch.valid.sum() == sum(piece.frames for piece in batch.pieces)
        seconds.append(batch.seconds)
    for i, values in found.items():
        audio = store.read(i) / store.level[i]
        np.testing.assert_allclose(values, extract(kind, audio), atol=1e-4)
    assert sum(seconds) == pytest.approx(anchoring.seconds_of(store))


def test_means_are_kept_with_the_store(store):
    with pytest.raises(UserError, match=r"mfcc\.npy: this store has no feature means"):
        load_means(store, "mfcc")
    means = anchoring.feature_means(store, Spectral("mfcc"))
    for i in range(len(store)):
        audio = store.read(i) / store.level[i]
        np.testing.assert_allclose(means[i], extract("mfcc", audio).mean(0), atol=1e-4)
    written = means_path(store, "mfcc").stat().st_mtime_ns
    np.testing.assert_array_equal(anchoring.feature_means(store, Spectral("mfcc")), means)
    assert means_path(store, "mfcc").stat().st_mtime_ns == written

    means_path(store, "logmel").write_bytes(means_path(store, "mfcc").read_bytes()[:100])
    with pytest.raises(UserError, match=r"logmel\.npy: damaged"):
        load_means(store, "logmel")
    np.save(means_path(store, "logmel"), np.zeros((3, 80)))
    with pytest.raises(UserError, match=r"logmel\.npy: has shape .*, but the store has"):
        load_means(store, "logmel")
    means_path(store, "logmel").unlink()


def test_features_of_whole_recordings(store, short_buckets):
    """Longer than the longest bucket they come in parts, each frame once."""
    heard = []

    def ramp(wave):
        heard.append(len(wave))
        return np.arange(grid.frames(len(wave)), dtype=np.float32)[:, None]

    found = {i: [] for i in range(len(store))}
    for batch in WholeRecordings("ramp", "ramp", 1, ramp)(store, range(len(store))):
        assert batch.values.shape[1] in (20, 40)
        for piece, values in batch:
            np.testing.assert_array_equal(values[:, 0], np.arange(piece.first, piece.first + piece.frames))
            found[piece.record].append((piece.first, piece.frames))
    assert heard == store.samples.tolist()
    for i, parts in found.items():
        assert sum(frames for _, frames in parts) == grid.frames(int(store.samples[i]))

    late = WholeRecordings("late", "late", 1, lambda wave: ramp(wave)[:-1])
    with pytest.raises(UserError, match=r"late of recording 2 .* \(23, 1\), not \(24, 1\): .* 50 Hz"):
        next(late(store, [2]))


def test_hard_labels_are_the_nearest_centroids(store):
    """Written and read as a mixture's labels are, one for each frame; of spectral features and of others."""
    means = anchoring.feature_means(store, Spectral("mfcc"))
    anchor = make_kmeans(normalize="mean")
    anchor.shift[:] = 0
    figures = anchoring.label(store, anchor, 1)
    assert figures == pytest.approx(
        {name: float(name in ("mean_kept_mass", "posterior_perplexity")) for name in figures}, abs=1e-6
    )
    whole = WholeRecordings("layer:1", "layer-1-ab", 39, lambda wave: np.asarray(extract("mfcc", wave)) + 7)
    layered = replace(anchor, features="layer:1", checkpoint_fingerprint="ab")
    anchoring.label(store, layered, 1, features=whole)
    for i in range(len(store)):
        frames = grid.frames(int(store.samples[i]))
        ids, probs = Labels(store, anchor).slice(i, 0, frames)
        assert (ids.shape, probs.shape) == ((frames, 1), (frames, 1))
        np.testing.assert_array_equal(probs, 1)
        x = extract("mfcc", store.read(i) / store.level[i]) - means[i]
        np.testing.assert_array_equal(ids[:, 0], nearest(anchor.arrays(), x))
        x = np.asarray(extract("mfcc", store.read(i)))
        ids, _ = Labels(store, layered).slice(i, 0, frames)
        np.testing.assert_array_equal(ids[:, 0], nearest(anchor.arrays(), x - x.mean(0)))
    with pytest.raises(UsageError, match="top_k = 4: choose 1: k-means gives a frame one label"):
        anchoring.label(store, anchor, 4)


@pytest.mark.parametrize("make", [make_gmm, make_kmeans])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_posteriors_that_are_nan_are_no_labels(make, bad, store):
    """Of features that are not finite, as a damaged checkpoint gives them."""
    features = WholeRecordings(
        "layer:1", "layer-1-bad", 39, lambda wave: np.full((grid.frames(len(wave)), 39), bad, np.float32)
    )
    anchor = make(features="layer:1", checkpoint_fingerprint="bad", seed=5)
    with pytest.raises(
        UserError, match=r"posteriors are NaN in recordings 0 to 5; fit the anchor again; if its features"
    ):
        anchoring.label(store, anchor, 1, features=features)
    with pytest.raises(UserError, match="no labels of anchor"):
        Labels(store, anchor)
