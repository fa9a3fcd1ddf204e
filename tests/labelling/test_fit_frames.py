import numpy as np
import pytest
from support.clustered_audio import babble_store

from jepa_speech.features import grid
from jepa_speech.labelling import fit_frames
from jepa_speech.labelling.extractors import Spectral

SECONDS = [0.5, 1.0, 0.5, 2.6, 1.0, 0.03]  # few shapes, few compilations


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return babble_store(tmp_path_factory.mktemp("fitting"), SECONDS)


def passes_of(store, kind="logmel", normalize="level", hours=1.0, seed=0, sample=1_000, **options):
    return fit_frames.fitting_passes(store, Spectral(kind), normalize, hours, seed, sample, **options)


def test_whole_recordings_are_held_out(store):
    passes = passes_of(store)
    assert passes.recordings == len(store)
    assert passes.frames + len(passes.heldout) == grid.frames(store.samples).sum()
    assert len(passes.heldout) in grid.frames(store.samples)
    again = passes_of(store, seed=5)
    np.testing.assert_allclose(again.heldout + again.shift, passes.heldout + passes.shift, atol=1e-4)
    few = passes_of(store, hours=4 / 3600)
    assert few.frames + len(few.heldout) <= 200
    assert few.recordings < len(store)
    assert passes_of(store, hours=float("inf")).recordings == len(store)


def test_frames_of_mean_zero(store):
    passes = passes_of(store, "mfcc", "mean")
    np.testing.assert_allclose((passes.heldout + passes.shift).mean(0), 0, atol=1e-3)


@pytest.mark.parametrize("standardize", [False, True])
def test_passes_in_memory_and_recomputed_have_the_same_frames(store, monkeypatch, standardize):
    """With the same chunks, so that a fit does not depend on memory. Any chunk can be computed alone."""
    monkeypatch.setattr(fit_frames, "CHUNK_BYTES", 30 * 39 * 4)
    held = passes_of(store, "mfcc", "mean", standardize=standardize)
    monkeypatch.setattr(fit_frames, "IN_MEMORY_BYTES", 0)
    anew = passes_of(store, "mfcc", "mean", standardize=standardize)
    assert held.frames + len(held.heldout) == grid.frames(store.samples).sum()
    assert (anew.frames, anew.recordings) == (held.frames, held.recordings)
    np.testing.assert_allclose(anew.shift, held.shift, atol=1e-4)  # a sample of 1,000 is all there is
    np.testing.assert_allclose(anew.scale, held.scale, atol=1e-4)
    np.testing.assert_allclose(anew.heldout, held.heldout, atol=1e-3)
    seconds = []
    chunks = [list(one.chunks(seconds.append)) for one in (held, anew)]
    assert sum(seconds) == pytest.approx(2 * held.frames / grid.FRAME_RATE)
    assert len(chunks[0]) == len(chunks[1]) > 2
    for one, other in zip(*chunks, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)
    np.testing.assert_array_equal(anew.chunks(seconds.append)[1], chunks[1][1])
    for one, parts in zip((held, anew), chunks, strict=True):
        x = np.concatenate(parts)
        assert len(x) == one.frames
        np.testing.assert_allclose(x.mean(0), 0, atol=1e-4)
        assert np.allclose(x.std(0), 1, atol=1e-3) == standardize
        np.testing.assert_allclose(np.sort(x, axis=0), np.sort(one.sample, axis=0), atol=1e-4)
    few = passes_of(store, "mfcc", sample=20)
    assert 5 < len(few.sample) < 40


def test_one_recording_watches_itself_in_every_way(tmp_path, monkeypatch):
    store = babble_store(tmp_path, [0.5])
    for _ in range(2):
        passes = passes_of(store, sample=10)
        (chunk,) = passes.chunks(lambda seconds: None)
        np.testing.assert_array_equal(chunk, passes.heldout)
        assert len(chunk) == passes.frames == grid.frames(8_000)
        monkeypatch.setattr(fit_frames, "IN_MEMORY_BYTES", 0)


def test_pca_whitens_log_mel_whether_held_or_not(store, monkeypatch):
    """Its covariance is the identity, but for directions that hardly vary."""
    plain = passes_of(store)
    for _ in range(2):
        passes = passes_of(store, "pca")
        (x,) = passes.chunks(lambda seconds: None)
        raw = (plain.heldout + plain.shift - passes.shift) / passes.scale
        np.testing.assert_allclose(passes.heldout, raw @ passes.rotation, atol=1e-2)
        covariance = np.cov(x.T.astype(np.float64), bias=True)
        variances = np.diag(covariance)
        assert (np.abs(covariance - np.diag(variances)) < 2e-3).all()
        assert (variances < 1.001).all() and (variances[:10] > 0.999).all()
        monkeypatch.setattr(fit_frames, "IN_MEMORY_BYTES", 0)
