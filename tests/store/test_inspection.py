"""What is found in a store: its figures, and every kind of damage."""

import shutil

import numpy as np
import pytest
from support.audio_files import write_tones

from jepa_speech.errors import UserError
from jepa_speech.files import write_json
from jepa_speech.store.checksums import file_crc, sealed
from jepa_speech.store.inspection import describe, verify
from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store

TRIALS = 50


@pytest.fixture(scope="module", params=["flac", "pcm16"])
def sound(request, tmp_path_factory):
    """A store of three shards, and its recordings."""
    folder = tmp_path_factory.mktemp(request.param)
    write_tones(folder / "audio", 12, seconds=2.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jepa_speech.store.chunks.CHUNK_RECORDS", 5)
        prepare([folder / "audio"], folder / "store", request.param, workers=1)
    store = Store(folder / "store")
    return store, [store.read(i) for i in range(len(store))]


def shards(store: Store) -> list:
    return sorted((store.path / "shards").iterdir())


def test_figures(sound):
    store, waves = sound
    found = describe(store)
    seconds = np.array([len(wave) / 16_000 for wave in waves])
    assert (found["records"], found["duplicates"], found["rejected"], found["silent"]) == (12, 0, 0, 0)
    assert found["hours"] == pytest.approx(seconds.sum() / 3600)
    assert found["seconds"]["median"] == pytest.approx(np.median(seconds))
    assert [(row["from"], row["to"], row["records"]) for row in found["histogram"] if row["records"]] == [(2, 5, 12)]
    assert found["suffixes"] == {".wav": 12} and found["rates"] == {"16000": 12} and found["shards"]["number"] == 3
    assert found["bytes"] == sum(path.stat().st_size for path in shards(store))
    assert found["level_db"]["median"] == pytest.approx(20 * np.log10(0.4 / np.sqrt(2)), abs=0.1)
    assert verify(store) == verify(store, decode=True) == []


def test_fifty_truncated_shards_are_each_named_at_opening_and_by_verify(sound, tmp_path):
    store, waves = sound
    rng = np.random.default_rng(0)
    shutil.copytree(store.path, tmp_path / "store")
    for _ in range(TRIALS):
        number = int(rng.integers(3))
        path = shards(Store(tmp_path / "store"))[number]
        raw = path.read_bytes()
        path.write_bytes(raw[: rng.integers(len(raw))])
        with pytest.raises(UserError, match=path.name):
            Store(tmp_path / "store")
        cut = Store(tmp_path / "store", damaged=True)
        damage = verify(cut)
        assert damage and {row["shard"] for row in damage} == {path.name}
        assert_named_or_right(cut, waves, {row["id"] for row in damage})
        path.write_bytes(raw)
    assert verify(Store(tmp_path / "store")) == []


def test_fifty_flipped_bits_in_shards_are_each_named_by_verify_and_never_heard(sound, tmp_path):
    """Where the flip lies in padding, every recording can still be read, and only `verify` sees it."""
    store, waves = sound
    rng = np.random.default_rng(1)
    shutil.copytree(store.path, tmp_path / "store")
    heard = 0
    for _ in range(TRIALS):
        path = shards(store)[int(rng.integers(3))]
        raw = bytearray(path.read_bytes())
        raw[rng.integers(len(raw))] ^= 1 << rng.integers(8)
        (tmp_path / "store" / "shards" / path.name).write_bytes(raw)
        flipped = Store(tmp_path / "store")
        damage = verify(flipped)
        assert damage and {row["shard"] for row in damage} == {path.name}
        lost = {row["id"] for row in damage} - {None}
        assert_named_or_right(flipped, waves, lost)
        heard += bool(lost)
        shutil.copy(path, tmp_path / "store" / "shards")
    assert heard > TRIALS // 2  # the test is of recordings, not of padding


def assert_named_or_right(store: Store, waves: list[np.ndarray], lost: set) -> None:
    for i, wave in enumerate(waves):
        if i in lost:
            with pytest.raises(UserError, match=f"recording {i} is damaged"):
                store.read(i)
            with pytest.raises(UserError, match=f"recording {i} is damaged"):
                store.read(i, 16_000, 10)  # however little is asked for
        else:
            np.testing.assert_array_equal(store.read(i), wave)


def test_a_record_in_another_place_is_not_taken_for_this_one(sound, tmp_path):
    """Intact shards with a wrong index: only the CRC of the record shows it."""
    store, _ = sound
    shutil.copytree(store.path, tmp_path / "store")
    position = tmp_path / "store" / "index" / "position.npy"
    places = np.load(position)
    places[[0, 1]] = places[[1, 0]]
    np.save(position, places)
    moved = Store(tmp_path / "store", damaged=True)
    for i in (0, 1):
        with pytest.raises(UserError, match=f"recording {i} is damaged"):
            moved.read(i)
    assert [(row["file"], row["id"]) for row in verify(moved)] == [("index/position.npy", None)]


@pytest.mark.parametrize("name", ["index/level.npy", "index/digest.npy", "records.jsonl", "duplicates.jsonl"])
def test_other_files_are_verified_too(sound, tmp_path, name):
    store, _ = sound
    shutil.copytree(store.path, tmp_path / "store")
    path = tmp_path / "store" / name
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert name in [row["file"] for row in verify(Store(tmp_path / "store", damaged=True))]


def test_samples_that_are_not_those_that_were_hashed(sound, tmp_path):
    """Damage that only decoding shows."""
    store, _ = sound
    shutil.copytree(store.path, tmp_path / "store")
    digest = np.load(tmp_path / "store" / "index" / "digest.npy")
    digest[7, 3] ^= 1
    path = tmp_path / "store" / "index" / "digest.npy"
    np.save(path, digest)
    info = store.info | {"files_crc": store.info["files_crc"] | {"index/digest.npy": file_crc(path)}}
    write_json(tmp_path / "store" / "store.json", sealed(info))
    found = verify(Store(tmp_path / "store"), decode=True)
    assert [row["id"] for row in found] == [7] and "does not decode to" in found[0]["what"]


def test_a_shard_that_is_missing(sound, tmp_path):
    store, _ = sound
    shutil.copytree(store.path, tmp_path / "store")
    for path in shards(Store(tmp_path / "store"))[:2]:
        path.unlink()
    with pytest.raises(UserError, match=r"part-00000.array_record \(and 1 more\): missing"):
        Store(tmp_path / "store")
    found = verify(Store(tmp_path / "store", damaged=True))
    assert [row["id"] for row in found] == list(range(10))
