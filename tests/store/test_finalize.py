"""The end of making a store: duplicates, and an index that is written without being held."""

import numpy as np
import pytest
from support.audio_files import write_tones

from jepa_speech.store.checksums import fingerprint
from jepa_speech.store.description import INDEX
from jepa_speech.store.finalize import duplicates
from jepa_speech.store.index_files import index_writer, written_index
from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store


@pytest.mark.parametrize("at_a_time", [1, 7, 1000])
def test_duplicates_are_found_however_many_are_looked_at_at_a_time(at_a_time):
    rng = np.random.default_rng(0)
    known = rng.integers(0, 256, (40, 16), dtype=np.uint8)
    which = rng.integers(40, size=60)
    which[-5:] = np.arange(40, 45) % 40
    expected = sorted(ids.tolist() for i in range(40) if len(ids := np.flatnonzero(which == i)) > 1)
    assert duplicates(known[which], at_a_time) == expected and len(expected) > 10
    half = known[:2].copy()
    half[1, :8] = half[0, :8]  # alike in the first half only
    assert duplicates(half, at_a_time) == duplicates(known[:1], at_a_time) == []


def test_an_index_written_by_pieces_is_what_numpy_would_write(tmp_path):
    rng = np.random.default_rng(0)
    pieces = [
        {name: rng.integers(0, 200, (rows, *row)).astype(kind) for name, (kind, row) in INDEX.items()}
        for rows in (3, 0, 5)
    ]
    with index_writer(tmp_path) as append:
        for piece in pieces:
            append(piece)
    found = written_index(tmp_path)
    for name in INDEX:
        whole = np.concatenate([piece[name] for piece in pieces])
        np.testing.assert_array_equal(found[name], whole)
        np.save(tmp_path / "numpy.npy", whole)
        assert (tmp_path / "numpy.npy").read_bytes() == (tmp_path / "index" / f"{name}.npy").read_bytes()


def test_a_shard_of_which_all_was_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr("jepa_speech.store.chunks.CHUNK_RECORDS", 2)
    for path in write_tones(tmp_path / "audio", 6)[2:4]:
        path.write_bytes(b"")
    prepare([tmp_path / "audio"], tmp_path / "store", workers=1, max_reject_fraction=0.5)
    store = Store(tmp_path / "store")
    assert store.index["shard"].tolist() == [0, 0, 2, 2] and len(store.info["shard_bytes"]) == 3
    assert all(len(store.read(i)) == store.samples[i] for i in range(4))
    assert store.fingerprint == fingerprint(store.digest)
