"""The verb: what it prints, its exit codes, and parts and stores made one."""

import json
from pathlib import Path

import pytest
from support.audio_files import write_tones

from jepa_speech.cli import main


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jepa_speech.store.chunks.CHUNK_RECORDS", 2)
    write_tones(tmp_path / "audio", 5)
    (tmp_path / "audio" / "tone000.wav").rename(tmp_path / "audio" / "x.wav")
    (tmp_path / "audio" / "y.wav").write_bytes((tmp_path / "audio" / "x.wav").read_bytes())
    write_tones(tmp_path / "more", 2, seconds=3.0, seed=50)
    return tmp_path


PREPARE = ["prepare", "--input", "audio", "--out", "store", "--workers", "1"]


def test_a_store_is_shown_and_verified(place, capsys):
    assert main(PREPARE) == 0
    assert "1 with the same samples as another: see store/duplicates.jsonl" in capsys.readouterr().out
    assert main(["inspect", "store", "--verify", "--json", "found.json"]) == 0
    out = capsys.readouterr().out
    for piece in (
        "6, 1.3 s",
        "in 3 shards",
        "0 to 1 s",
        "####",
        ".wav 6",
        "duplicates   1",
        "labels       none",
        "label sets   none",
        "sound:",
    ):
        assert piece in out, piece
    found = json.loads((place / "found.json").read_text())
    assert found["damage"] == [] and found["records"] == 6
    assert main(["inspect", "store", "--verify", "decode"]) == 0
    assert "bytes and samples as written" in capsys.readouterr().out


def test_damage_is_named_and_the_exit_code_1(place, capsys):
    main(PREPARE)
    shard = place / "store" / "shards" / "part-00001.array_record"
    raw = bytearray(shard.read_bytes())
    raw[raw.find(b"fLaC") + 3000] ^= 1
    shard.write_bytes(raw)
    capsys.readouterr()
    assert main(["inspect", "store", "--verify", "--json", "found.json"]) == 1
    out, error = capsys.readouterr()
    assert "part-00001.array_record: recording 2 is damaged" in out
    assert "1 file damaged, 1 recording lost" in error
    found = json.loads((place / "found.json").read_text())
    assert [(row["shard"], row["id"]) for row in found["damage"]] == [(shard.name, 2)]
    shard.write_bytes(raw[:1000])
    assert main(["inspect", "store"]) == 1
    assert "part-00001.array_record: missing, or not of the size that was written" in capsys.readouterr().err
    assert main(["inspect", "store", "--verify"]) == 1
    assert "2 recordings lost" in capsys.readouterr().err


def test_parts_and_stores_are_merged(place, capsys):
    for i in (1, 0):
        assert main([*PREPARE, "--part", f"{i}/2"]) == 0
        assert "`jepa-speech inspect store --merge`" in capsys.readouterr().out
    assert main(["inspect", "store", "--merge"]) == 0
    assert "store: 6 recordings" in capsys.readouterr().out
    assert main(["prepare", "--input", "more", "--out", "other", "--workers", "1", "--part", "0/3"]) == 0
    assert main(["inspect", "other", "--merge"]) == 0  # three parts, one shard: the other two have nothing to do
    assert main(["inspect", "store", "other", "--merge", "--out", "both"]) == 0
    capsys.readouterr()
    assert main(["inspect", "both"]) == 0
    assert "joined of    store (6), other (2)" in capsys.readouterr().out


def test_parts_of_labels_are_merged_once_the_store_is_whole(place, capsys, monkeypatch):
    merged = []
    monkeypatch.setattr(
        "jepa_speech.api.inspect.merge_label_parts", lambda store: [merged.append(store) or Path("abc")]
    )
    main([*PREPARE, "--part", "0/1"])
    for _ in range(2):
        assert main(["inspect", "store", "--merge", "--json", "found.json"]) == 0
        assert "labels of anchor abc joined" in capsys.readouterr().out
    assert [len(store) for store in merged] == [6, 6]
    assert json.loads((place / "found.json").read_text())["labels"] == ["abc"]


def test_wrong_command_lines(place, capsys):
    main(PREPARE)
    main(["prepare", "--input", "more", "--out", "other", "--workers", "1", "--part", "0/2"])
    for arguments, code, message in [
        (["inspect"], 2, "STORE"),
        (["inspect", "nowhere"], 1, "not a complete store"),
        (["inspect", "audio"], 1, "audio: not a store but a folder of"),
        (["inspect", "other"], 1, "`jepa-speech inspect other --merge`"),
        (["inspect", "store", "other"], 2, "go with --merge"),
        (["inspect", "store", "other", "--merge"], 2, "name it with --out"),
        (["inspect", "store", "--merge", "--out", "both"], 2, "at least two"),
        (["inspect", "store", "--merge", "--verify"], 2, "two commands"),
        (["inspect", "nowhere", "--merge"], 1, "no parts of a store"),
        ([*PREPARE, "--part", "2/2"], 2, "no part"),
        ([*PREPARE, "--part", "1"], 2, "no part"),
        ([*PREPARE, "--shard-mb", "1"], 1, "another shard_mb"),
    ]:
        capsys.readouterr()
        assert main(arguments) == code, arguments
        assert message in capsys.readouterr().err, arguments
