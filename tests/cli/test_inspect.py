"""The verb: what it prints, its exit codes, and parts and stores made one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.audio_files import write_tones
from support.exported_runs import own_config, small_run
from support.public_checkpoints import TINY, write_folder
from support.random_anchors import make_gmm

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


def test_what_is_not_a_store_is_said(tmp_path, monkeypatch, capsys):
    """One line each: what it is, and what to do with it."""
    monkeypatch.chdir(tmp_path)
    small_run(tmp_path / "run", own_config("logmel"))
    shutil.copytree("run", "fresh", ignore=shutil.ignore_patterns("checkpoints"))
    write_folder(tmp_path / "hf", TINY, {"a": np.zeros(1, np.float32)})
    make_gmm(8, 80, features="logmel").save(tmp_path / "a.npz")
    np.savez("features.npz", a=np.zeros(3))
    write_tones(tmp_path / "audio", 2)
    for name in ("m/x.jsonl", "m/deep/y.jsonl", "s3prl/hubconf.py", "s3prl/model/config.json", "hlo/export.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    labels = tmp_path / "store" / "labels" / "abc"
    labels.mkdir(parents=True)
    (labels / "meta.json").write_text('{"anchor": "0123456789abcdef", "components": 16, "frames": 7}')
    (labels / "blocks.bin").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for name, message in {
        "run": "a run folder: objective gmm_jepa, step 0 of",
        "fresh": "a run folder: objective gmm_jepa, no checkpoint yet of",
        "run/checkpoints": "a checkpoint of the run run: run `jepa-speech inspect run`",
        "run/checkpoints/0": "a checkpoint of the run run: run `jepa-speech inspect run`",
        "hf": "a model folder of transformers (hubert): make a run of it with `jepa-speech import hf hf --out RUN`",
        "hf/model.safetensors": "the weights of a model",
        "s3prl": "an upstream folder for S3PRL",
        "hlo": "a StableHLO program",
        "a.npz": "an anchor of 8 components in logmel: use it with `jepa-speech label",
        "features.npz": "an .npz file that is not an anchor",
        "m": "a folder of 2 manifests: make a store of it with `jepa-speech prepare --input m/NAME.jsonl",
        "m/x.jsonl": "an input: make a store of it",
        "audio": "a folder of 2 recordings: make a store of it with `jepa-speech prepare --input audio",
        "audio/tone000.wav": "an input: make a store of it",
        "store/labels/abc": "the labels of anchor 0123456789ab: 16 components, 7 frames; run `jepa-speech",
    }.items():
        assert main(["inspect", name]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"jepa-speech inspect: {name}: not a store but {message}")
    assert main(["inspect", "empty"]) == 1
    assert "not a complete store" in capsys.readouterr().err
