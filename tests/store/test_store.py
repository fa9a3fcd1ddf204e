"""Reading a store: crops, threads, pickles, and stores that are not whole."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
from support.audio_files import write_tones

from jepa_speech.errors import UserError
from jepa_speech.store import store as store_module
from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store

COUNT = 6


@pytest.fixture(scope="module", params=["flac", "pcm16"])
def made(request, tmp_path_factory):
    """A store, and the waves that went in."""
    folder = tmp_path_factory.mktemp(request.param)
    paths = write_tones(folder / "audio", COUNT, seconds=0.5)
    prepare([folder / "audio"], folder / "store", request.param, workers=1)
    return Store(folder / "store"), [soundfile.read(path)[0] for path in paths]


def test_what_was_recorded_is_read(made):
    store, waves = made
    assert len(store) == COUNT and store.samples.tolist() == [len(wave) for wave in waves]
    for i, wave in enumerate(waves):
        wave = wave - wave.mean()
        read = store.read(i)
        assert read.dtype == np.float32
        np.testing.assert_allclose(read, wave, atol=0.51 / 32768)
        assert store.level[i] == pytest.approx(np.sqrt(np.mean(np.square(read, dtype=np.float64))), rel=1e-6)
    assert store.hours == pytest.approx(sum(map(len, waves)) / 16_000 / 3600)


def test_a_crop_is_a_slice_of_the_whole(made):
    store, _ = made
    rng = np.random.default_rng(0)
    for i in rng.integers(COUNT, size=40):
        whole = store.read(i)
        start, samples = rng.integers(len(whole)), rng.integers(len(whole))
        np.testing.assert_array_equal(store.read(i, start, samples), whole[start : start + samples])
    assert len(store.read(0, len(store.read(0)))) == len(store.read(0, 5, 0)) == 0


def test_outside_is_an_index_error(made):
    store, _ = made
    for arguments in [(COUNT,), (-1,), (0, -1), (0, int(store.samples[0]) + 1)]:
        with pytest.raises(IndexError):
            store.read(*arguments)


def test_threads_share_it_and_pickles_reopen_it(made, monkeypatch):
    store, _ = made
    monkeypatch.setattr(store_module, "OPEN_SHARDS", 1)
    again = pickle.loads(pickle.dumps(store))
    expected = [store.read(i) for i in range(COUNT)]
    with ThreadPoolExecutor(4) as pool:
        for i, wave in zip(list(range(COUNT)) * 10, pool.map(again.read, list(range(COUNT)) * 10), strict=True):
            np.testing.assert_array_equal(wave, expected[i])
    assert again.fingerprint == store.fingerprint


def test_more_shards_than_may_stay_open(tmp_path, monkeypatch):
    monkeypatch.setattr("jepa_speech.store.chunks.CHUNK_RECORDS", 1)
    monkeypatch.setattr(store_module, "OPEN_SHARDS", 2)
    write_tones(tmp_path / "audio", 4)
    prepare([tmp_path / "audio"], tmp_path / "store", workers=1)
    store = Store(tmp_path / "store")
    lengths = [len(store.read(i)) for i in (0, 3, 1, 2, 0, 3)]
    assert lengths == store.samples[[0, 3, 1, 2, 0, 3]].tolist() and len(store._readers) == 2


def test_labels_of_each_record(tmp_path):
    write_tones(tmp_path, 2)
    rows = [
        {"path": "tone001.wav", "text": "zwölf", "slots": {"n": [1, 2]}, "duration": 0.21, "speaker": "a"},
        {"path": "tone000.wav", "text": None, "id": "x"},
    ]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    prepare([tmp_path / "m.jsonl"], tmp_path / "store", workers=1)
    assert list(Store(tmp_path / "store").records()) == [
        {
            "id": 0,
            "source": "tone001.wav",
            "duration": 0.21,
            "rate": 16_000,
            "text": "zwölf",
            "slots": {"n": [1, 2]},
            "speaker": "a",
        },
        {"id": 1, "source": "tone000.wav", "duration": 0.2, "rate": 16_000, "manifest_id": "x"},
    ]


@pytest.fixture
def damaged(tmp_path):
    write_tones(tmp_path / "audio", 3)
    prepare([tmp_path / "audio"], tmp_path / "store", workers=1)
    return tmp_path / "store"


def test_missing_and_unfinished(damaged, tmp_path):
    with pytest.raises(UserError, match=r"none.*jepa-speech prepare --input"):
        Store(tmp_path / "none")
    (damaged / "store.json").unlink()
    with pytest.raises(UserError, match=r"no store.json.*jepa-speech prepare --input"):
        Store(damaged)
    (damaged / "work").mkdir()
    with pytest.raises(UserError, match="run the same prepare command again"):
        Store(damaged)


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": 99}', "{"])
def test_strange_store_json(damaged, text):
    (damaged / "store.json").write_text(text)
    with pytest.raises(UserError, match=r"store.json|format 2"):
        Store(damaged)


def test_missing_and_cut_files(damaged):
    shard, index = damaged / "shards" / "part-00000.array_record", damaged / "index" / "level.npy"
    whole = index.read_bytes()
    for broken in (whole[:-4], whole[:20], b""):
        index.write_bytes(broken)
        with pytest.raises(UserError, match=r"level.npy"):
            Store(damaged)
    np.save(index, np.zeros(2, np.float32))
    with pytest.raises(UserError, match=r"level.npy: does not match"):
        Store(damaged)
    index.write_bytes(whole)
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match="part-00000"):
        Store(damaged)


def test_a_flipped_bit_in_a_shard_is_one_clear_line(damaged):
    shard = damaged / "shards" / "part-00000.array_record"
    raw = bytearray(shard.read_bytes())
    at = raw.find(b"fLaC") + 3000
    raw[at] ^= 1
    shard.write_bytes(raw)
    with pytest.raises(UserError, match=r"part-00000.array_record: recording 0 is damaged"):
        Store(damaged).read(0)
