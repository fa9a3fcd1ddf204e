"""Models are read from a bucket, and what is made of them is written there, as if the folders were local."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from support.audio_files import write_tones
from support.bucket_servers import BUCKET, names
from support.bucket_servers import upload as upload_folder
from support.exported_runs import write_three_checkpoints
from support.parsers import commands

import jepa_speech
from jepa_speech import cli
from jepa_speech.api.transcribe import recordings
from jepa_speech.cloud.objects import Objects
from jepa_speech.errors import UserError
from jepa_speech.files import write_jsonl
from jepa_speech.local_paths import path_or_bucket
from jepa_speech.probing.dataset import wave_of


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Checkpoints 10, 20 and 30; the second has the lowest held-out loss."""
    return write_three_checkpoints(tmp_path_factory.mktemp("models") / "mine")


@pytest.fixture
def url(run, servers, machine):
    machine("reads")
    return upload_folder("s3", servers["s3"], run, "models/mine")


def arrays_of(folder, step=None):
    return jax.tree.leaves(jepa_speech.load_pretrained(folder, step).params)


def steps_fetched(folder: Path) -> set[str]:
    return {path.parent.parent.name for path in folder.rglob("weights") if path.is_dir()}


@pytest.mark.parametrize("step,expected", [(None, 30), (20, 20), ("best", 20)])
def test_a_checkpoint_is_read_and_no_other_is_fetched(step, expected, run, url, tmp_path):
    model = jepa_speech.load_pretrained(url, step)
    assert model.step == expected
    for mine, theirs in zip(jax.tree.leaves(model.params), arrays_of(run, step), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    fetched = {path.parent.name for path in tmp_path.rglob("weights") if path.is_dir()}
    assert fetched == {str(expected)}
    assert jepa_speech.load_pretrained(f"{url}/checkpoints/10").step == 10


def test_what_is_wrong_is_named_by_its_url(run, url, bucket, tmp_path):
    with pytest.raises(UserError, match=rf"^{url}: has no checkpoint of step 7; choose one of 10, 20, 30$"):
        jepa_speech.load_pretrained(url, 7)
    with pytest.raises(UserError, match=rf"^s3://{BUCKET}/none: not a run folder"):
        jepa_speech.load_pretrained(f"s3://{BUCKET}/none")
    bucket.delete("models/mine/checkpoints/30/checksums.json")  # as while it is uploaded
    assert jepa_speech.load_pretrained(url).step == 20
    bucket.put("models/mine/config.json", b"{}")
    with pytest.raises(UserError, match=rf"^{url}/config.json: neither of a run"):
        jepa_speech.load_pretrained(url)
    for one in ("config.json", "checkpoints/30/checksums.json"):
        bucket.put(f"models/mine/{one}", run / one)


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_an_export_is_written_like_a_local_one(scheme, run, servers, machine, buckets, tmp_path):
    machine("reads", scheme)
    url = upload_folder(scheme, servers[scheme], run, "models/mine")
    out = f"{scheme}://{BUCKET}/exports/whole"
    found = jepa_speech.export_hf(url, out)
    expected = jepa_speech.export_hf(run, tmp_path / "local")
    assert found == expected | {"out": out}
    for name in expected["files"]:
        assert bytes(buckets[scheme].get(f"exports/whole/{name}").bytes()) == (tmp_path / "local" / name).read_bytes()
    for mine, theirs in zip(arrays_of(out), arrays_of(tmp_path / "local"), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(UserError, match=rf"^{out} already has a config.json; choose a new folder, or remove"):
        jepa_speech.export_hf(url, out)
    assert not list((tmp_path / "reads" / "written").rglob("*.safetensors"))


def test_an_upload_that_was_killed_is_done_again_and_nothing_else_is_replaced(run, machine, bucket, monkeypatch):
    machine("kills")
    out, upload = f"s3://{BUCKET}/exports/killed", Objects.upload

    def killed(self, name, path):
        if name == "config.json":
            raise KeyboardInterrupt
        upload(self, name, path)

    monkeypatch.setattr(Objects, "upload", killed)
    with pytest.raises(KeyboardInterrupt):
        jepa_speech.export_hf(run, out)
    there = names(bucket, "exports/killed")
    assert "model.safetensors" in there and "config.json" not in there
    monkeypatch.setattr(Objects, "upload", upload)
    machine("another")
    with pytest.raises(UserError, match=rf"^{out} already has a "):
        jepa_speech.export_hf(run, out)
    machine("kills")
    assert set(jepa_speech.export_hf(run, out)["files"]) == names(bucket, "exports/killed")


def test_recordings_in_a_bucket_are_embedded_and_transcribed_like_local_ones(url, servers, tmp_path):
    write_tones(tmp_path / "audio" / "in", 3, seconds=0.3)
    rows = [{"audio_path": f"in/tone00{i}.wav", "text": "abc", "offset": 0.05 * i, "duration": 0.1} for i in range(3)]
    write_jsonl(tmp_path / "audio" / "m.jsonl", rows)
    there = upload_folder("s3", servers["s3"], tmp_path / "audio", "my recordings")
    local = jepa_speech.embed(url, tmp_path / "audio" / "in")["features"]
    found = jepa_speech.embed(url, f"{there}/in")["features"]
    found |= jepa_speech.embed(url, [f"{there}/in/tone000.wav", tmp_path / "audio" / "in" / "tone001.wav"])["features"]
    for name, array in found.items():
        np.testing.assert_array_equal(array, local[name.replace(there, str(tmp_path / "audio"))])
    assert [name.removeprefix(there) for name in found] == [
        *(f"/in/tone00{i}.wav" for i in range(3)),
        f"{tmp_path}/audio/in/tone001.wav",
    ]
    here = str(tmp_path / "audio")
    for audio, manifest in (("in", ""), ("", "m.jsonl")):
        mine, theirs = (
            recordings(audio and f"{place}/{audio}", manifest and f"{place}/{manifest}", None)
            for place in (there, here)
        )
        assert [row["audio_path"].replace(there, here) for row in mine[2]] == [row["audio_path"] for row in theirs[2]]
        for ours, expected in zip(mine[0], theirs[0], strict=True):
            np.testing.assert_array_equal(wave_of(ours), wave_of(expected))
    for name, line in (
        ("none", "no such folder or manifest"),
        ("m.jsonl", "a manifest or an archive, not a recording"),
        ("in/tone009.wav", "no such folder or manifest"),
    ):
        with pytest.raises(UserError, match=rf"^{there}/{name}: {line}"):
            jepa_speech.embed(url, f"{there}/{name}")


def test_results_of_other_systems_are_read(machine, bucket, tmp_path, capsys):
    machine("reads")
    url = f"s3://{BUCKET}/others"
    bucket.put("others/bad.json", b"{}")
    for option in ("against", "pool"):
        for name, line in (("bad", "not a results file"), ("none", "no such object")):
            with pytest.raises(UserError, match=rf"^{url}/{name}.json: {line}"):
                jepa_speech.probe("logmel", tmp_path / "nowhere", **{option: [f"{url}/{name}.json"]})
            given = ["--checkpoint", "logmel", "--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]
            assert cli.main(["probe", *given, f"--{option}", f"{url}/{name}.json"]) in (1, 2)
            assert capsys.readouterr().err.startswith(f"jepa-speech probe: {url}/{name}.json: {line}")


def test_features_and_results_are_written(url, bucket, tmp_path):
    write_tones(tmp_path / "audio", 2)
    out = f"s3://{BUCKET}/features/a.npz"
    found = jepa_speech.embed(url, tmp_path / "audio", out)
    local = jepa_speech.embed(url, tmp_path / "audio", tmp_path / "a.npz")
    assert found["out"] == out and found == local | {"out": out}
    (tmp_path / "b.npz").write_bytes(bytes(bucket.get("features/a.npz").bytes()))
    with np.load(tmp_path / "b.npz") as mine, np.load(tmp_path / "a.npz") as theirs:
        for name in theirs:
            np.testing.assert_array_equal(mine[name], theirs[name])
    shutil.rmtree(tmp_path / "reads")
    again = jepa_speech.embed(url, tmp_path / "audio", out)
    assert again == found | {"already_complete": True}


def test_no_option_that_takes_a_bucket_writes_a_local_folder(machine, tmp_path, monkeypatch, capsys):
    machine("refuses")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    tried = 0
    for name, command in commands(cli.parser()):
        actions = [one for one in command._actions if one.nargs != 0]
        needed = [one for one in actions if one.required]
        for option in actions:
            if option.type is not path_or_bucket:
                continue
            line = name.split()
            for one in sorted({*needed, option}, key=lambda one: actions.index(one)):
                value = f"s3://{BUCKET}/nothing/here" if one is option else "x"
                line += [*one.option_strings[:1], value]
            code = cli.main(line)
            said = capsys.readouterr().err.splitlines()
            assert code in (1, 2) and said[-1].startswith(f"jepa-speech {name.split()[0]}: "), (line, said)
            assert not any("Traceback" in text or "/refuses/" in text for text in said), (line, said)
            assert not [path for path in Path().rglob("*") if path.is_file() and not path.name.startswith(".")], line
            tried += 1
    assert tried > 20
