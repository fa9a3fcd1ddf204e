"""`jepa-speech embed`; its function is tested in tests/api/test_embed.py."""

import json
import os

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
from support.audio_files import tone, write_tones
from support.exported_runs import small_config, small_run

from jepa_speech.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return str(small_run(tmp_path_factory.mktemp("embed") / "run", small_config("hubert")))


def test_what_is_printed(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_tones(tmp_path / "in", 2, 0.3)
    line = ["embed", "in", "--checkpoint", run, "--layer", "1", "--out", "a.npz", "--json", "said.json"]
    assert main(line) == 0
    assert capsys.readouterr().out == "a.npz: 2 files, 29 frames of width 16, layer 1 of 0 to 2, 50 frames a second\n"
    said = json.loads((tmp_path / "said.json").read_text())
    assert (said["files"], said["frames"], said["layer"], said["layers"]) == (2, 29, 1, 3)
    assert main(line) == 0 and "a.npz: already complete" in capsys.readouterr().out
    assert json.loads((tmp_path / "said.json").read_text()) == said | {"already_complete": True}


def test_folders_and_names_that_are_not_utf8(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    strange = os.fsdecode(b"caf\xe9.wav")
    for name in ("in/b.wav", "in/deep/a.flac", "in/.hidden/x.wav", "c.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, tone(0.3), 16_000)
    (tmp_path / "c.wav").rename(strange)
    for out in ("a.npz", "a.parquet"):
        assert main(["embed", "in", strange, "in/b.wav", "--checkpoint", run, "--out", out]) == 0
    wanted = ["in/b.wav", "in/deep/a.flac", "caf\\udce9.wav"]
    with np.load("a.npz", allow_pickle=False) as found:
        assert found.files == wanted and found[wanted[2]].shape == found["in/b.wav"].shape
    assert pyarrow.parquet.read_table("a.parquet")["path"].to_pylist() == wanted
    (tmp_path / "empty").mkdir()
    capsys.readouterr()
    assert main(["embed", "empty", "--checkpoint", run, "--out", "b.npz"]) == 1
    assert "empty: no recordings found" in capsys.readouterr().err
    (tmp_path / "in" / "c.m4a").touch()
    assert main(["embed", "in", "--checkpoint", run, "--out", "b.npz"]) == 1
    assert "c.m4a" in capsys.readouterr().err
