"""A manifest of another kind is one line: what it looks like, and which kinds are known."""

import gzip
import json
import zipfile

import pytest
from tones import write_tones

from jepa_speech import cli
from jepa_speech.data.manifest import entries

SPEECHBRAIN = {f"utt{i}": {"wav": "{data_root}/a.wav", "length": 1.0, "words": "x"} for i in range(3)}
UNKNOWN = {
    "train.tsv": (
        "client_id\tpath\tsentence\nab\tcommon_voice_en_1.mp3\tHello\n",
        "tabs, which begins with client_id, ",
    ),
    "train.csv": ("ID,duration,wav,spk_id,wrd\na,1.0,a.wav,s,HELLO\n", "commas, which begins with ID, duration, wav"),
    "metadata.csv": (
        "LJ001-0001|Printing|printing\nLJ001-0002|in|in\n",
        "bars, which begins with LJ001-0001, Printing",
    ),
    "semi.txt": ("file;text\na.wav;x\n", "semicolons"),
    "train.json": (json.dumps(SPEECHBRAIN, indent=2), "one JSON object over several lines"),
    "array.json": (json.dumps([{"audio_path": "a.wav"}], indent=1), "a JSON array"),
    "line.json": (json.dumps([{"audio_path": "a.wav"}] * 3), "a JSON array"),
    "files.lst": ("a.wav\nb.wav\n", "text that begins with a.wav"),
    "meta.yaml": ("- audio: a.wav\n  text: x\n", "text that begins with - audio: a.wav"),
    "page.html": ("<!DOCTYPE html>\n<html>\n", "text that begins with <!DOCTYPE html>"),
    "log.txt": ("é" * 3000, "text that begins with ééé"),
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
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.wav", "text": "x"}\n')
    assert cli.main(["prepare", "--check", "--input", str(tmp_path / "metadata.jsonl")]) == 1
    error = capsys.readouterr().err
    assert "metadata.jsonl:1: no_audio_path: none of audio_path, " in error and "(its keys: file_name, text)" in error
