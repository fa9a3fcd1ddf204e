"""Making a store: the same for any workers and codec, and what is refused or rejected."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.audio_files import tone, write_tones
from support.folder_contents import contents

from jepa_speech.errors import UsageError, UserError
from jepa_speech.ingest.fixes import FIXES
from jepa_speech.store import prepare as module
from jepa_speech.store.checking import check
from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr("jepa_speech.store.chunks.CHUNK_RECORDS", 4)


@pytest.fixture
def tones(tmp_path):
    write_tones(tmp_path / "audio", 10)
    return tmp_path / "audio"


def rejects(store: Path) -> list[dict]:
    return [json.loads(line) for line in (store / "rejects.jsonl").read_text(encoding="utf-8").splitlines()]


def test_workers_import_no_jax():
    code = "import sys, jepa_speech.store.prepare; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_same_store_for_any_number_of_workers(tones, tmp_path, small_chunks):
    """Byte for byte, and the samples' fingerprint whatever the codec."""
    results = [
        prepare([tones], tmp_path / name, codec, workers)
        for name, codec, workers in [("one", "flac", 1), ("two", "flac", 2), ("pcm", "pcm16", 1)]
    ]
    assert len({result["fingerprint"] for result in results}) == 1
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(list((tmp_path / "one" / "shards").iterdir())) == 3 and not (tmp_path / "one" / "work").exists()
    assert results[0]["read"] == results[0]["records"] == 10 and results[0]["rejected"] == 0


def test_fingerprint_sees_samples_and_their_order(tones, tmp_path):
    first = prepare([tones], tmp_path / "a", workers=1)["fingerprint"]
    (tones / "tone000.wav").rename(tones / "z.wav")
    second = prepare([tones], tmp_path / "b", workers=1)["fingerprint"]
    assert first != second


def test_the_same_call_again_does_nothing(tones, tmp_path, monkeypatch):
    first = prepare([tones], tmp_path / "store", workers=1)
    before = contents(tmp_path / "store")
    monkeypatch.setattr(module, "write_chunk", None)
    monkeypatch.chdir(tmp_path)
    assert prepare(["audio"], tmp_path / "store", workers=1) == first  # however the folder is written
    assert contents(tmp_path / "store") == before


@pytest.mark.parametrize("unfinished", [False, True])
def test_other_inputs_or_codec_at_the_same_place_are_refused(tones, tmp_path, unfinished):
    store = tmp_path / "store"
    prepare([tones], store, workers=1)
    if unfinished:
        (tones / "tone000.wav").write_bytes(b"")
        with pytest.raises(UserError, match="1 of 10"):
            prepare([tones], tmp_path / "store2", workers=1)
        store = tmp_path / "store2"
    before = contents(store)
    with pytest.raises(UserError, match=r"store2?: was prepared with another codec; remove it or choose another"):
        prepare([tones], store, "pcm16", workers=1)
    write_tones(tones, 11)
    with pytest.raises(UserError, match=r"store2?: was prepared with other inputs"):
        prepare([tones], store, workers=1)
    assert contents(store) == before


def test_a_folder_of_something_else_is_refused(tones, tmp_path):
    before = contents(tones)
    with pytest.raises(UserError, match=r"holds tone000.wav"):
        prepare([tones], tones, workers=1)
    with pytest.raises(UserError, match="cannot be written"):
        prepare([tones], tones / "tone000.wav", workers=1)
    assert contents(tones) == before


def test_nothing_to_store(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: no recordings found \(looked for .wav"):
        prepare([tmp_path / "empty"], tmp_path / "store", workers=1)
    for name in ("rows.jsonl", "table.csv", "cuts.jsonl.gz"):
        contents = b"" if name.endswith("jsonl") else b"path,text\n"
        (tmp_path / name).write_bytes(gzip.compress(b"\n") if name.endswith("gz") else contents)
        with pytest.raises(UserError, match=rf"{name}: no recordings found \(no row names one\)$"):
            prepare([tmp_path / name], tmp_path / "store", workers=1)
    with pytest.raises(UserError, match=r"none: no such folder"):
        prepare([tmp_path / "none"], tmp_path / "store", workers=1)
    assert not (tmp_path / "store").exists()


def test_arguments_out_of_range(tones, tmp_path):
    for wrong in (
        {"codec": "mp3"},
        {"workers": 0},
        {"max_reject_fraction": 1.5},
        {"max_reject_fraction": float("nan")},
    ):
        with pytest.raises(UsageError):
            prepare([tones], tmp_path / "store", **wrong)
    assert not (tmp_path / "store").exists()


def test_rejects_are_counted_named_and_bounded(tones, tmp_path, small_chunks):
    (tones / "tone004.wav").write_bytes(b"no audio")
    soundfile.write(tones / "tone007.wav", np.zeros(399), 16_000)
    with pytest.raises(UserError, match=r"2 of 10 .*tone004.wav, unreadable.*rejects.jsonl.*max_reject_fraction"):
        prepare([tones], tmp_path / "store", workers=1)
    assert [(Path(row["source"]).name, row["reason"]) for row in rejects(tmp_path / "store")] == [
        ("tone004.wav", "unreadable"),
        ("tone007.wav", "too_short"),
    ]
    with pytest.raises(UserError, match="unfinished"):
        Store(tmp_path / "store")
    result = prepare([tones], tmp_path / "store", workers=1, max_reject_fraction=0.2)
    assert (result["read"], result["records"], result["rejected"]) == (10, 8, 2)
    assert result["reasons"] == {"unreadable": 1, "too_short": 1}
    store = Store(tmp_path / "store")
    assert [row["id"] for row in store.records()] == list(range(8))
    assert [row["source"] for row in store.records()][4] == "tone005.wav"
    assert all(len(store.read(i)) == store.samples[i] for i in range(8))


def test_a_store_of_rejects_only_is_no_store(tmp_path):
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "x.wav").write_bytes(b"")
    with pytest.raises(UserError, match=r"1 of 1 .*rejects.jsonl lists all$"):
        prepare([tmp_path / "audio"], tmp_path / "store", workers=1, max_reject_fraction=1.0)
    assert not (tmp_path / "store" / "store.json").exists()


@pytest.mark.parametrize("named", ["/etc/hostname", "none.wav", "", "clip.m4a", "short.wav"])
def test_the_first_reject_comes_with_what_mends_it(named, tmp_path):
    (tmp_path / "clip.m4a").write_bytes(b"\0\0\0 ftypM4A " + bytes(64))
    soundfile.write(tmp_path / "short.wav", np.zeros(9, np.float32), 16000)
    (tmp_path / "m.jsonl").write_text(json.dumps({"path": named}))
    (row,) = check([tmp_path / "m.jsonl"])["rejects"]
    with pytest.raises(UserError) as error:
        prepare([tmp_path / "m.jsonl"], tmp_path / "store", workers=1)
    assert f"{row['detail']}; {FIXES[row['reason']]}); " in str(error.value)


@pytest.mark.parametrize("change", ["inputs", "codec", "fewer files"])
def test_a_store_of_rejects_only_starts_again(tmp_path, monkeypatch, change):
    """Nothing has to be removed by hand, and the store has nothing of the first try."""
    monkeypatch.setattr("jepa_speech.store.chunks.CHUNK_RECORDS", 1)
    audio, store = tmp_path / "audio", tmp_path / "store"
    audio.mkdir()
    for name in "abc":
        (audio / f"{name}.wav").write_bytes(b"no audio")
    with pytest.raises(UserError, match="3 of 3 recordings rejected"):
        prepare([audio], store, workers=1)
    assert len(rejects(store)) == 3
    for name in "bc" if change == "fewer files" else "":
        (audio / f"{name}.wav").unlink()
    for path in audio.iterdir():
        soundfile.write(path, tone(0.1, ord(path.stem)), 16_000)
    codec = "pcm16" if change == "codec" else "flac"
    assert prepare([audio], store, codec, workers=1)["records"] == len(list(audio.iterdir()))
    prepare([audio], tmp_path / "first", codec, workers=1)
    assert contents(store) == contents(tmp_path / "first")


def test_a_store_with_a_recording_does_not_start_again(tones, tmp_path):
    (tones / "tone004.wav").write_bytes(b"no audio")
    with pytest.raises(UserError, match="1 of 10 recordings rejected"):
        prepare([tones], tmp_path / "store", workers=1)
    before = contents(tmp_path / "store")
    soundfile.write(tones / "tone004.wav", np.ones(1600), 16_000)
    with pytest.raises(UserError, match="other inputs, or these before some changed; remove it or choose"):
        prepare([tones], tmp_path / "store", workers=1)
    assert contents(tmp_path / "store") == before


def test_duration_of_the_manifest_must_fit(tmp_path):
    write_tones(tmp_path, 3, seconds=1.0)  # 1.00, 1.01 and 1.02 s
    rows = [{"path": f"tone00{i}.wav", "duration": claimed} for i, claimed in enumerate((0.91, 1.2, 1.1))]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare([tmp_path / "m.jsonl"], tmp_path / "store", workers=1, max_reject_fraction=0.5)
    (row,) = rejects(tmp_path / "store")
    assert (row["line"], row["reason"], row["source"]) == (2, "duration_mismatch", "tone001.wav")
    assert row["manifest"] == str(tmp_path / "m.jsonl") and "1.01 s" in row["detail"]


def test_every_line_of_the_broken_manifest(speech_data, tmp_path):
    manifest = speech_data / "awkward" / "broken_manifest.jsonl"
    result = prepare([manifest], tmp_path / "store", workers=1, max_reject_fraction=1.0, root=speech_data)
    assert {row["line"]: row["reason"] for row in rejects(tmp_path / "store")} == {
        3: "missing",
        4: "bad_json",
        5: "bad_json",
        6: "no_audio_path",
        8: "duration_mismatch",
        9: "bad_duration",
        10: "bad_duration",
        11: "duration_mismatch",
        12: "outside_root",
        13: "duplicate",
        14: "not_an_object",
    }  # line 2 is empty
    assert [row["text"] for row in Store(tmp_path / "store").records()] == ["fine line", "no duration"]
    assert result["read"] == 13 == result["records"] + result["rejected"]
