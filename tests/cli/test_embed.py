import json
import os

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
from support.audio_files import tone, write_tones
from support.exported_runs import small_config, small_run

import jepa_speech
from jepa_speech.cli import embed as verb
from jepa_speech.cli import main
from jepa_speech.features.grid import frames
from jepa_speech.ingest.audio import FULL_SCALE, load


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return str(small_run(tmp_path_factory.mktemp("embed") / "run", small_config("hubert")))


def test_each_file_gets_the_frames_that_python_gives(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tones(tmp_path / "in", 2, 0.3)
    soundfile.write("other.wav", tone(0.4, 5, 8_000), 8_000)
    names = ["in/tone000.wav", "in/tone001.wav", str(tmp_path / "other.wav")]
    line = ["embed", *names, names[0], "--checkpoint", run, "--layer", "1", "--out", "deep/features.npz"]
    assert main([*line, "--json", "said.json"]) == 0
    model = jepa_speech.load_pretrained(run)
    with np.load("deep/features.npz", allow_pickle=False) as found:
        assert sorted(found.files) == sorted(names)
        for name in names:
            wave = load(tmp_path / name)
            np.testing.assert_allclose(found[name], model.represent(wave / FULL_SCALE, 16_000).layers[1], atol=1e-6)
            assert found[name].shape == (frames(len(wave)), 16)
            assert found[name].dtype == np.float32
        total = sum(len(found[name]) for name in names)
    said = json.loads((tmp_path / "said.json").read_text())
    assert (said["files"], said["frames"], said["layer"], said["layers"]) == (3, total, 1, 3)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["features.npz"]


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["a.wav", "--layer", "3"], 2, "--layer 3: this encoder has the layers 0 to 2"),
        (["a.wav", "--layer", "-1"], 2, "--layer -1: this encoder has the layers 0 to 2"),
        (["gone.wav", "a.wav", "lost.wav"], 1, "gone.wav: no such file, and 1 more"),
        (["a.wav", "text.wav"], 1, "text.wav: "),
        (["a.wav", "m.json"], 1, "m.json: a manifest or an archive, not a recording; name its recordings"),
        (["a.wav", "cv.tsv"], 1, "cv.tsv: a manifest or an archive, not a recording; name its recordings"),
        (["a.wav", "short.wav"], 1, "short.wav: "),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_no_file(options, code, says, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", tone(0.3), 16_000)
    soundfile.write("short.wav", tone(0.01), 16_000)
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "m.json").write_text('{"audio_filepath": "a.wav", "text": "x"}\n')
    (tmp_path / "cv.tsv").write_text("client_id\tpath\tsentence\nab\ta.wav\tx\n")
    assert main(["embed", *options, "--checkpoint", run, "--out", "out.npz"]) == code
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("jepa-speech embed: ")]
    assert says in line
    assert not list(tmp_path.glob("*out.npz*"))


def test_a_parquet_file_holds_the_same(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_tones(tmp_path, 2, 0.3)
    names = ["tone000.wav", "tone001.wav"]
    for out in ("a.npz", "a.parquet"):
        assert main(["embed", *names, "--checkpoint", run, "--out", out]) == 0
    rows = pyarrow.parquet.read_table("a.parquet").to_pydict()
    assert rows["path"] == names
    with np.load("a.npz", allow_pickle=False) as found:
        for name, features in zip(names, rows["features"], strict=True):
            np.testing.assert_array_equal(np.float32(features), found[name])
    capsys.readouterr()
    assert main(["embed", *names, "--checkpoint", run, "--out", "a.parquet"]) == 0
    assert "a.parquet: already complete" in capsys.readouterr().out


def test_other_files_are_not_written(run, capsys):
    assert main(["embed", "a.wav", "--checkpoint", run, "--out", "features.h5"]) == 2
    assert "must end in .npz or .parquet" in capsys.readouterr().err


def stopping_after(monkeypatch, files: int) -> list[str]:
    """embed and its count of work: the same as a kill after so many files."""
    done: list[str] = []
    real = verb.embedded

    def embedded(model, entry):
        if len(done) == files:
            raise KeyboardInterrupt
        done.append(entry.source)
        return real(model, entry)

    monkeypatch.setattr(verb, "embedded", embedded)
    return done


def test_it_goes_on_after_a_kill_and_says_when_it_was_done(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_tones(tmp_path / "in", 3, 0.3)
    names = sorted(f"in/tone00{i}.wav" for i in range(3))
    assert main(["embed", *names, "--checkpoint", run, "--out", "whole.npz"]) == 0
    line = ["embed", *names, "--checkpoint", run, "--out", "deep/out.npz"]
    with monkeypatch.context() as killed:
        stopping_after(killed, 2)
        assert main(line) == 130
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out.embed.partial"]
    done = stopping_after(monkeypatch, 99)
    assert main(line) == 0 and done == names[2:]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out.npz"]
    with np.load("whole.npz") as whole, np.load("deep/out.npz") as found:
        assert found.files == whole.files == names
        assert all(np.array_equal(found[name], whole[name]) for name in names)
    capsys.readouterr()
    assert main([*line, "--json", "said.json"]) == 0 and done == names[2:]
    assert "already complete" in capsys.readouterr().out
    assert json.loads((tmp_path / "said.json").read_text())["files"] == 3
    soundfile.write(names[0], tone(0.4, 7), 16_000)  # another recording by now
    assert main(line) == 0 and done == [*names[2:], *names]


def test_a_file_that_it_did_not_write_stays(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_tones(tmp_path, 1, 0.3)
    np.savez("mine.npz", x=np.ones(3))
    for name, content in (("text.npz", b"notes"), ("table.parquet", b"notes"), ("mine.npz", None)):
        path = tmp_path / name
        path.write_bytes(content or path.read_bytes())
        before = path.read_bytes()
        assert main(["embed", "tone000.wav", "--checkpoint", run, "--out", name]) == 1
        assert (
            f"{name} has no mark of `jepa-speech embed`: another program or an earlier version"
            in capsys.readouterr().err
        )
        assert path.read_bytes() == before


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
    assert "empty: no recordings there" in capsys.readouterr().err
    (tmp_path / "in" / "c.m4a").touch()
    assert main(["embed", "in", "--checkpoint", run, "--out", "b.npz"]) == 1
    assert "c.m4a" in capsys.readouterr().err
