"""`jepa_speech.inspect`, `merge_parts` and `join_stores`."""

import pytest
from support.audio_files import write_tones

import jepa_speech
from jepa_speech.errors import UsageError, UserError


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A whole store of two shards that `merge_parts` made."""
    monkeypatch.setattr("jepa_speech.store.chunks.CHUNK_RECORDS", 2)
    write_tones(tmp_path / "audio", 4)
    for i in (1, 0):
        part = jepa_speech.prepare(tmp_path / "audio", tmp_path / "store", workers=1, part=(i, 2))
        assert (part["part"], part["whole"], part["read"]) == (f"{i}/2", False, 2)
    results = jepa_speech.merge_parts(tmp_path / "store")
    assert (results["records"], results["shards"], results["labels"]) == (4, 2, [])
    return tmp_path / "store"


def test_damage_is_returned(store):
    found = jepa_speech.inspect(store)
    assert found["records"] == 4 and "damage" not in found
    assert jepa_speech.inspect(store, verify="decode") == found | {"damage": []}
    shard = store / "shards" / "part-00001.array_record"
    shard.write_bytes(shard.read_bytes()[:-5])
    damage = jepa_speech.inspect(store, verify="crc")["damage"]
    assert {row["id"] for row in damage} == {2, 3} and {row["shard"] for row in damage} == {shard.name}
    (store / "records.jsonl").write_text("")
    assert jepa_speech.inspect(store, verify="crc").keys() == {"store", "damage"}
    with pytest.raises(UsageError, match="verify = 'all': choose"):
        jepa_speech.inspect(store, verify="all")


def test_stores_are_joined(store, tmp_path):
    write_tones(tmp_path / "more", 1, seed=9)
    jepa_speech.prepare(tmp_path / "more", tmp_path / "other", workers=1)
    joined = jepa_speech.join_stores([store, tmp_path / "other"], tmp_path / "both")
    assert (joined["records"], joined["shards"]) == (5, 3)
    for function in (jepa_speech.inspect, jepa_speech.merge_parts):
        with pytest.raises(UserError, match="audio: not a store but a folder of 4 recordings"):
            function(tmp_path / "audio")
    with pytest.raises(UsageError, match="at least two"):
        jepa_speech.join_stores([store], tmp_path / "one")
