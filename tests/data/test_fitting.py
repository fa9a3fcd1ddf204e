import numpy as np
import pytest
from babble import babble_store

from jepa_speech.data import fitting
from jepa_speech.data.extractors import Spectral
from jepa_speech.features import grid

SECONDS = [0.5, 1.0, 0.5, 2.6, 1.0, 0.03]  # few shapes, few compilations


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return babble_store(tmp_path_factory.mktemp("fitting"), SECONDS)


def test_fitting_frames_hold_out_whole_recordings(store):
    frames = fitting.fitting_frames(store, Spectral("logmel"), "level", hours=1, seed=0)
    assert frames.recordings == len(store)
    assert len(frames.train) + len(frames.heldout) == grid.frames(store.samples).sum()
    assert len(frames.heldout) in grid.frames(store.samples)
    again = fitting.fitting_frames(store, Spectral("logmel"), "level", hours=1, seed=5)
    np.testing.assert_array_equal(frames.heldout, again.heldout)
    few = fitting.fitting_frames(store, Spectral("logmel"), "level", hours=4 / 3600, seed=0)
    assert len(few.x) <= 200
    assert few.recordings < len(store)


def test_fitting_frames_of_mean_zero(store):
    frames = fitting.fitting_frames(store, Spectral("mfcc"), "mean", hours=1, seed=0)
    np.testing.assert_allclose(frames.heldout.mean(0), 0, atol=1e-3)


def test_one_recording_watches_itself(tmp_path):
    frames = fitting.fitting_frames(babble_store(tmp_path, [0.5]), Spectral("logmel"), "level", hours=1, seed=0)
    np.testing.assert_array_equal(frames.train, frames.heldout)
    assert len(frames.train) == grid.frames(8_000)


@pytest.mark.parametrize("standardize", [False, True])
def test_passes_in_memory_and_anew_hold_the_same_frames(store, monkeypatch, standardize):
    def passes():
        return fitting.fitting_passes(store, Spectral("mfcc"), "mean", 1, 0, sample=1_000, standardize=standardize)

    held = passes()
    monkeypatch.setattr(fitting, "HELD_BYTES", 0)
    monkeypatch.setattr(fitting, "CHUNK_FRAMES", 30)
    anew = passes()
    assert held.frames + len(held.heldout) == grid.frames(store.samples).sum()
    assert (anew.frames, anew.recordings) == (held.frames, held.recordings)
    np.testing.assert_allclose(anew.shift, held.shift, atol=1e-4)  # a sample of 1,000 is all there is
    np.testing.assert_allclose(anew.scale, held.scale, atol=1e-4)
    np.testing.assert_allclose(anew.heldout, held.heldout, atol=1e-3)
    for one in (held, anew):
        for _ in range(2):
            seconds = []
            chunks = list(one.chunks(seconds.append))
            assert all(len(chunk) >= 30 for chunk in chunks[:-1])
            x = np.concatenate(chunks)
            assert len(x) == one.frames
            assert sum(seconds) == pytest.approx(one.frames / grid.FRAME_RATE)
            np.testing.assert_allclose(x.mean(0), 0, atol=1e-4)
            assert np.allclose(x.std(0), 1, atol=1e-3) == standardize
            np.testing.assert_allclose(np.sort(x, axis=0), np.sort(one.sample, axis=0), atol=1e-4)
    few = fitting.fitting_passes(store, Spectral("mfcc"), "level", 1, 0, sample=20)
    assert 5 < len(few.sample) < 40


def test_one_recording_watches_itself_in_every_way(tmp_path, monkeypatch):
    store = babble_store(tmp_path, [0.5])
    for _ in range(2):
        passes = fitting.fitting_passes(store, Spectral("logmel"), "level", 1, 0, sample=10)
        assert len(np.concatenate(list(passes.chunks(lambda seconds: None)))) == len(passes.heldout) == passes.frames
        monkeypatch.setattr(fitting, "HELD_BYTES", 0)
