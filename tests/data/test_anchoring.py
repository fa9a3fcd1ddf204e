import jax
import numpy as np
import pytest
from babble import babble_store

from jepa_speech.data import anchoring, utterances
from jepa_speech.data.feature_means import load_means, means_path
from jepa_speech.errors import UserError
from jepa_speech.features import grid, spectral

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
    for piece, values in anchoring.features(store, kind, range(len(store)), seconds.append):
        found[piece.record][piece.first : piece.first + piece.frames] = values
    for i, values in found.items():
        audio = store.read(i) / store.level[i]
        np.testing.assert_allclose(values, extract(kind, audio), atol=1e-4)
    assert sum(seconds) == pytest.approx(anchoring.seconds_of(store))


def test_means_are_kept_with_the_store(store):
    with pytest.raises(UserError, match=r"mfcc\.npy: this store has no feature means"):
        load_means(store, "mfcc")
    means = anchoring.feature_means(store, "mfcc")
    for i in range(len(store)):
        audio = store.read(i) / store.level[i]
        np.testing.assert_allclose(means[i], extract("mfcc", audio).mean(0), atol=1e-4)
    written = means_path(store, "mfcc").stat().st_mtime_ns
    np.testing.assert_array_equal(anchoring.feature_means(store, "mfcc"), means)
    assert means_path(store, "mfcc").stat().st_mtime_ns == written

    means_path(store, "logmel").write_bytes(means_path(store, "mfcc").read_bytes()[:100])
    with pytest.raises(UserError, match=r"logmel\.npy: broken"):
        load_means(store, "logmel")
    np.save(means_path(store, "logmel"), np.zeros((3, 80)))
    with pytest.raises(UserError, match=r"logmel\.npy: .* of another store"):
        load_means(store, "logmel")
    means_path(store, "logmel").unlink()


def test_fitting_frames_hold_out_whole_recordings(store):
    frames = anchoring.fitting_frames(store, "logmel", "level", hours=1, seed=0)
    assert frames.recordings == len(store)
    assert len(frames.train) + len(frames.heldout) == grid.frames(store.samples).sum()
    assert len(frames.heldout) in grid.frames(store.samples)
    again = anchoring.fitting_frames(store, "logmel", "level", hours=1, seed=5)
    np.testing.assert_array_equal(frames.heldout, again.heldout)
    few = anchoring.fitting_frames(store, "logmel", "level", hours=4 / 3600, seed=0)
    assert len(few.x) <= 200
    assert few.recordings < len(store)


def test_fitting_frames_of_mean_zero(store):
    frames = anchoring.fitting_frames(store, "mfcc", "mean", hours=1, seed=0)
    np.testing.assert_allclose(frames.heldout.mean(0), 0, atol=1e-3)


def test_one_recording_watches_itself(tmp_path):
    frames = anchoring.fitting_frames(babble_store(tmp_path, [0.5]), "logmel", "level", hours=1, seed=0)
    np.testing.assert_array_equal(frames.train, frames.heldout)
    assert len(frames.train) == grid.frames(8_000)
