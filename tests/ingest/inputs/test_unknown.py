"""A manifest of another kind is one line: what it looks like, and which kinds are known."""

import gzip
import json
import zipfile

import pytest
from support.audio_files import write_tones

from jepa_speech import cli
from jepa_speech.errors import UserError
from jepa_speech.ingest.manifest import entries

UNKNOWN = {
    "train.tsv": ("client_id\tclip\tsentence\nab\tcommon_voice_en_1.mp3\tHello\n", "tabs whose first line names no "),
    "train.csv": ("ID,duration,speech,spk_id,wrd\na,1.0,a.wav,s,HELLO\n", "commas whose first line names no column"),
    "filelist.txt": (
        "a.wav|hello\nb.wav|you\n",
        "add a first line that names the columns, such as audio_path|text",
    ),
    "metadata.csv": (
        "LJ001-0001|Printing|printing\nLJ001-0002|in|in\n",
        "bars whose first line names no column of paths (path, file_name, wav, ...): LJ001-0001, Printing",
    ),
    "semi.txt": ("name;text\na.wav;x\n", "semicolons"),
    "train.json": (json.dumps({"utts": {"a": {"input": [{"feat": "x.ark:1"}]}}}, indent=2), "one JSON object over sev"),
    "array.json": (json.dumps(["a.wav", "b.wav"], indent=1), "a JSON array of values that are not objects"),
    "line.json": (json.dumps([["a.wav", "x"]] * 3), "a JSON array of values that are not objects"),
    "files.lst": ("a.wav\nb.wav\n", "a list of files without a header: put a first line audio_path (a.wav)"),
    "data.list": (
        "/x/shards_000000000.tar\n/x/shards_000000001.tar\n",
        "WeNet's list of shards: name the",
    ),
    "meta.yaml": ("- audio: a.wav\n  text: x\n", "text that begins with - audio: a.wav"),
    "page.html": ("<!DOCTYPE html>\n<html>\n", "text that begins with <!DOCTYPE html>"),
    "log.txt": ("é" * 3000, "text that begins with ééé"),
    "x.pkl": ("\x04\x05 and text\n", "a binary file that begins with 0x04052061"),
    "x.npy": ("\x93NUMPY\0\1", "a binary file that begins with 0xc2934e55"),
}


@pytest.mark.parametrize("name", UNKNOWN)
@pytest.mark.parametrize("packed", [False, True])
def test_other_kinds_are_named_in_one_line(name, packed, tmp_path, capsys):
    contents, words = UNKNOWN[name]
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(contents.encode()) if packed else contents.encode())
    assert cli.main(["prepare", "--input", str(path), "--out", str(tmp_path / "store")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"jepa-speech prepare: {path}: not a known kind of manifest, but ") and words in error
    assert "JSON lines" in error and "fairseq" in error and "Lhotse" in error and error.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_archives_are_named(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "audio.zip", "w") as archive:
        archive.writestr("a.wav", b"?")
    assert cli.main(["prepare", "--check", "--input", str(tmp_path / "audio.zip")]) == 1
    assert "a ZIP archive: unpack it" in capsys.readouterr().err


@pytest.mark.parametrize(
    "contents",
    [
        '{"path": "tone000.wav"}',
        '\n\n{"path": "tone000.wav"}\n',
        'no JSON\n{"path": "tone000.wav"}\n',
        '{"path": "tone000.wav", "text": "' + "x" * 9000 + '"}\n',
        '{"path": \n{"path": "tone000.wav"}\n',
        '\ufeff{"path": "tone000.wav"}\n',
    ],
)
def test_json_lines_of_any_name_are_taken(contents, tmp_path):
    write_tones(tmp_path, 1)
    (tmp_path / "train.txt").write_text(contents, encoding="utf-8")
    assert [entry.source for entry in entries([tmp_path / "train.txt"]) if not entry.reason] == ["tone000.wav"]


def test_rows_without_a_known_name_of_the_path_show_their_names(tmp_path, capsys):
    (tmp_path / "metadata.jsonl").write_text('{"clip": "a.wav", "text": "x"}\n')
    assert cli.main(["prepare", "--check", "--input", str(tmp_path / "metadata.jsonl")]) == 1
    error = capsys.readouterr().err
    assert "metadata.jsonl:1: no_audio_path: none of audio_path, " in error and "(its keys: clip, text)" in error


FOLDERS = {
    "a Kaldi directory of features": ["feats.scp", "text"],
    "a dataset in Arrow files, written by save_to_disk": [
        "dataset_info.json",
        "state.json",
        "data-00000-of-00001.arrow",
    ],
}


@pytest.mark.parametrize("words", FOLDERS)
def test_folders_without_audio_files_are_named(words, tmp_path):
    for name in FOLDERS[words]:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=words):
        next(entries([tmp_path]))


@pytest.mark.parametrize("name", ["files.lst", "wavs.txt", "list"])
@pytest.mark.parametrize(("header", "rest"), [("audio_path", ""), ("audio_path|text", "|hello")])
def test_the_first_line_that_messages_ask_for_is_enough(name, header, rest, tmp_path):
    write_tones(tmp_path, 2)
    (tmp_path / name).write_text(f"{header}\ntone000.wav{rest}\ntone001.wav{rest}\n")
    assert [(one.source, one.reason) for one in entries([tmp_path / name])] == [(f"tone00{i}.wav", "") for i in (0, 1)]
