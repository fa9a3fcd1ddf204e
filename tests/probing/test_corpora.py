"""Public corpora on fake folders of their layout: splits, labels, and that the tasks read what is written."""

import json

import numpy as np
import pytest
import soundfile

from jepa_speech.cli import main
from jepa_speech.files import read_jsonl
from jepa_speech.probing import asv, evaluate
from jepa_speech.probing.corpora import listing


def clip(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def text(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def librispeech(root):
    for subset in ("train-clean-100", "dev-clean", "test-clean"):
        for speaker in ("19", "26"):
            names = [f"{speaker}-198-000{i}" for i in range(2)]
            text(root / subset / speaker / "198" / f"{speaker}-198.trans.txt", *(f"{name} IT'S TWO" for name in names))
            for name in names:
                clip(root / subset / speaker / "198" / f"{name}.flac")


def voxceleb1(root):
    split = []
    for number in range(45):
        folder, speaker = ("test" if number < 3 else "dev"), f"id1{number:04}"
        for i in range(6):
            clip(root / folder / "wav" / speaker / "vid" / f"0000{i}.wav")
            split.append(f"{1 + i // 2} {speaker}/vid/0000{i}.wav")
    text(root / "iden_split.txt", *split)
    first = "id10000/vid/00000.wav"
    text(root / "veri_test.txt", f"1 {first} id10000/vid/00001.wav", f"0 {first} id10002/vid/00005.wav")


def fluent_speech_commands(root):
    for split in ("train", "valid", "test"):
        rows = [
            (f"wavs/speakers/s/{split}{i}.wav", "increase", "heat", place) for i, place in enumerate(("none", "hall"))
        ]
        lines = [f'{i},{path},s,"Warmer, please",{a},{o},{p}' for i, (path, a, o, p) in enumerate(rows)]
        text(root / "data" / f"{split}_data.csv", ",path,speakerId,transcription,action,object,location", *lines)
        for path, *_ in rows:
            clip(root / path)


def iemocap(root):
    for number in range(1, 6):
        dialog = f"Ses0{number}F_impro01"
        turns = []
        for i, emotion in enumerate(("neu", "exc", "fru", "xxx", "ang", "sad", "hap")):
            name = f"{dialog}_{'FM'[i % 2]}00{i}"
            turns += [f"[6.2901 - 8.2357]\t{name}\t{emotion}\t[2.5000, 2.5000, 2.5000]", "C-E2:\tNeutral;\t()"]
            clip(root / f"Session{number}" / "sentences" / "wav" / dialog / f"{name}.wav")
        text(root / f"Session{number}" / "dialog" / "EmoEvaluation" / f"{dialog}.txt", "% header", "", *turns)


def audio_snips(root):
    lines = []
    for split, voices in (("train", ("Ivy", "Joey", "Amy")), ("valid", ("Amy",)), ("test", ("Brian", "Ivy"))):
        for voice in voices:
            name = f"{voice}-snips-{split}-0"
            lines.append(f"{name} BOS play some jazz EOS\tO O O B-genre PlayMusic")
            clip(root / split / f"{name}.wav")
    text(root / "all.iob.snips.txt", *lines)


def speech_commands(root):
    first, second = root / "speech_commands_v0.01", root / "speech_commands_test_set_v0.01"
    for word in ("yes", "no", "bed"):
        for i in range(3):
            clip(first / word / f"{i}_nohash_0.wav")
    text(first / "validation_list.txt", "yes/1_nohash_0.wav", "bed/1_nohash_0.wav")
    text(first / "testing_list.txt", "yes/2_nohash_0.wav")
    (first / "_background_noise_").mkdir()
    soundfile.write(first / "_background_noise_" / "tap.wav", np.arange(16_000 * 12.5) % 99 / 100, 16_000)
    for label in ("yes", "_unknown_", "_silence_"):
        clip(second / label / "0.wav")


CORPORA = {
    make.__name__: make
    for make in (librispeech, voxceleb1, fluent_speech_commands, iemocap, audio_snips, speech_commands)
}


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """Lists a fake corpus of some name by the verb: file name -> rows."""
    monkeypatch.chdir(tmp_path)

    def by_verb(name):
        CORPORA[name](tmp_path / "corpus")
        assert main(["corpus", name, "corpus", "--out", "listed/it", "--json", "said.json"]) == 0
        said = json.loads((tmp_path / "said.json").read_text())["files"]
        found = {file: list(read_jsonl(f"listed/it/{file}")) for file in said if file.endswith(".jsonl")}
        for file, rows in found.items():
            assert len(rows) == said[file]
            assert all((tmp_path / "listed/it" / row["audio_path"]).is_file() for row in rows)
        return found

    return by_verb


def column(rows, field):
    return [row[field] for row in rows]


@pytest.mark.parametrize("name", CORPORA)
def test_its_tasks_read_what_is_written(listed, tmp_path, name):
    listed(name)
    for task in listing.reader(name).TASKS:
        splits = evaluate.TASKS[task].read(tmp_path / "listed/it")
        keys = [{u.key for u in utterances} for utterances in splits.values()]
        assert all(keys) and len(set().union(*keys)) == sum(map(len, keys))  # no recording in two splits
        assert all(u.path.is_file() for utterances in splits.values() for u in utterances)


def test_every_corpus_has_a_fake():
    assert set(CORPORA) == set(listing.NAMES)


def test_librispeech(listed):
    (row, *_) = listed("librispeech")["test.manifest.jsonl"]
    assert row == {
        "audio_path": "../../corpus/test-clean/19/198/19-198-0000.flac", "text": "IT'S TWO", "speaker": "19",
    }  # fmt: skip


def test_voxceleb1(listed, tmp_path):
    found = listed("voxceleb1")
    assert [len(found[f"sid.{split}.manifest.jsonl"]) for split in ("train", "valid", "test")] == [90, 90, 90]
    speakers = {split: set(column(found[f"{split}.manifest.jsonl"], "speaker")) for split in ("train", "valid", "test")}
    assert speakers["test"] == {"id10000", "id10002"}
    assert len(speakers["valid"]) == 40 and not speakers["train"] & (speakers["valid"] | speakers["test"])
    trials = [target for u in asv.read(tmp_path / "listed/it")["test"] for target in u.target]
    assert [(key.rpartition("wav/")[2], same) for key, same in trials] == [
        ("id10000/vid/00001.wav", True), ("id10002/vid/00005.wav", False),
    ]  # fmt: skip


def test_fluent_speech_commands(listed):
    rows = listed("fluent_speech_commands")["valid.manifest.jsonl"]
    assert (
        column(rows, "intent") == ["increase|heat|none", "increase|heat|hall"] and rows[0]["text"] == "Warmer, please"
    )


def test_iemocap(listed):
    found = listed("iemocap")
    assert column(found["test.manifest.jsonl"], "emotion") == ["neutral", "happy", "angry", "sad", "happy"]
    assert column(found["test.manifest.jsonl"], "speaker") == ["Ses05F", "Ses05M", "Ses05F", "Ses05M", "Ses05F"]
    assert len(found["train.manifest.jsonl"]) == 15


def test_audio_snips(listed):
    found = listed("audio_snips")
    assert column(found["train.manifest.jsonl"], "speaker") == ["Ivy", "Joey"]  # Amy is a voice of valid
    (row,) = found["test.manifest.jsonl"]
    assert (row["text"], row["slot_tags"], row["intent"]) == ("play some jazz", ["O", "O", "B-genre"], "PlayMusic")


def test_speech_commands(listed, tmp_path):
    found = listed("speech_commands")
    labels = {split: column(found[f"{split}.manifest.jsonl"], "label") for split in ("train", "valid", "test")}
    assert labels["train"] == ["_unknown_"] * 2 + ["no"] * 3 + ["yes"] + ["_silence_"] * 10
    assert labels["valid"] == ["_unknown_", "yes", "_silence_", "_silence_"]
    assert labels["test"] == ["_silence_", "_unknown_", "yes"]
    assert soundfile.info(tmp_path / "listed/it/silence/tap_011.wav").frames == 16_000


@pytest.mark.parametrize(
    ("name", "missing", "words"),
    [
        ("librispeech", "dev-clean", "no rows found for valid.manifest.jsonl"),
        ("voxceleb1", "veri_test.txt", "veri_test.txt: no such file"),
        ("voxceleb1", "test", "speaker id10000 is in no */wav folder"),
        ("fluent_speech_commands", "wavs/speakers/s/test1.wav", "test1.wav: no such file"),
        ("iemocap", "Session3", "Session3/dialog/EmoEvaluation: no evaluations"),
        ("audio_snips", "all.iob.snips.txt", "all.iob.snips.txt: no such file"),
        ("speech_commands", "speech_commands_v0.01/_background_noise_", "no background noises"),
    ],
)
def test_what_is_missing_is_named(tmp_path, monkeypatch, capsys, name, missing, words):
    monkeypatch.chdir(tmp_path)
    CORPORA[name](tmp_path / "corpus")
    (tmp_path / "corpus" / missing).rename(tmp_path / "away")
    assert main(["corpus", name, "corpus", "--out", "listed"]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not list(tmp_path.glob("listed/*.jsonl"))


@pytest.mark.parametrize("name", CORPORA)
def test_hidden_files_and_byte_order_marks_change_nothing(listed, tmp_path, name):
    """A ._x beside each x, as macOS leaves them on foreign disks, hidden folders, and lists as Windows writes them."""
    wanted = listed(name)
    for path in sorted((tmp_path / "corpus").rglob("*")):
        if path.is_file():
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        \260\377")
            hidden = path.parent / ".Trash" / path.name
            hidden.parent.mkdir(exist_ok=True)
            hidden.write_bytes(path.read_bytes())
            if path.suffix in (".txt", ".csv"):
                path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n \r\n")
    assert main(["corpus", name, "corpus", "--out", "listed/it"]) == 0
    for file, rows in wanted.items():
        assert list(read_jsonl(tmp_path / "listed/it" / file)) == rows


ENCODINGS = {  # what is made of a list, and what is said of the line after it
    "latin-1": (lambda old: old + b"caf\xe9\n", "{name}:{lines}: byte 0xe9 in column 4 is not UTF-8"),
    "utf-16": (lambda old: old.decode().encode("utf-16"), "{name}:1: UTF-16 (it begins with 0xfffe)"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", CORPORA)
def test_other_encodings_of_every_list_are_one_line_with_place(tmp_path, monkeypatch, capsys, name, encoding):
    monkeypatch.chdir(tmp_path)
    CORPORA[name](tmp_path / "corpus")
    change, message = ENCODINGS[encoding]
    for path in [p for p in sorted((tmp_path / "corpus").rglob("*")) if p.suffix in (".txt", ".csv")]:
        before = path.read_bytes()
        path.write_bytes(change(before))
        assert main(["corpus", name, "corpus", "--out", "listed"]) == 1
        error = capsys.readouterr().err
        lines = path.read_bytes().count(b"\n")
        assert message.format(name=path.name, lines=lines) in error and error.count("\n") == 1
        assert not list(tmp_path.glob("listed/*.jsonl"))
        path.write_bytes(before)


LINES = [  # a line that lacks a column, or has another form
    ("librispeech", "dev-clean/19/198/19-198.trans.txt", "19-198-0001", "'NAME TEXT'"),
    ("voxceleb1", "iden_split.txt", "1", "'1 (or 2, 3) SPEAKER/VIDEO/CLIP.wav'"),
    ("voxceleb1", "iden_split.txt", "1 id10001", "'1 (or 2, 3) SPEAKER/VIDEO/CLIP.wav'"),
    ("voxceleb1", "iden_split.txt", "id10001/vid/00000.wav", "'1 (or 2, 3) SPEAKER/VIDEO/CLIP.wav'"),
    ("voxceleb1", "veri_test.txt", "1 id10000/vid/00000.wav", "'1 (or 0) CLIP CLIP'"),
    ("voxceleb1", "veri_test.txt", "id10000/vid/00000.wav id10000/vid/00001.wav", "'1 (or 0) CLIP CLIP'"),
    ("voxceleb1", "veri_test.txt", "1 id10000 id10001/vid/00000.wav", "'1 (or 0) CLIP CLIP'"),
    ("audio_snips", "all.iob.snips.txt", "Ivy-x BOS play jazz EOS", "'NAME BOS words EOS', a tab and as many tags"),
    ("audio_snips", "all.iob.snips.txt", "Ivy-x BOS play jazz EOS\tO O PlayMusic", "'NAME BOS words EOS'"),
    ("audio_snips", "all.iob.snips.txt", "Ivy-x\tO", "'NAME BOS words EOS'"),
]


@pytest.mark.parametrize(("name", "file", "line", "wanted"), LINES)
def test_a_line_without_all_columns_is_named(tmp_path, monkeypatch, capsys, name, file, line, wanted):
    monkeypatch.chdir(tmp_path)
    CORPORA[name](tmp_path / "corpus")
    path = tmp_path / "corpus" / file
    path.write_bytes(path.read_bytes() + f"\n{line}\n".encode())
    number = path.read_bytes().count(b"\n")
    assert main(["corpus", name, "corpus", "--out", "listed"]) == 1
    error = capsys.readouterr().err
    assert f"{file}:{number}: expected {wanted}" in error and error.count("\n") == 1
    assert not list(tmp_path.glob("listed/*.jsonl"))


@pytest.mark.parametrize(
    ("name", "file", "content", "words"),
    [
        ("fluent_speech_commands", "data/test_data.csv", "path,action\nx,y\n", "row 1 has no speakerId, transcription"),
        ("fluent_speech_commands", "data/test_data.csv", ",path,speakerId,transcription,action,object,location\n0,x\n",
         "row 1 has no speakerId"),
        ("fluent_speech_commands", "data/test_data.csv", 'path,a\n"x', "not a table of comma-separated values"),
        ("fluent_speech_commands", "data/valid_data.csv",
         "path,speakerId,transcription,action,object,location\n../away.wav,s,t,a,o,l\n", "outside of corpus"),
        ("iemocap", "Session2/dialog/EmoEvaluation/Ses02F_impro01.txt", "Ses02F_impro01_F000\tneu\n",
         "Ses02F_impro01.txt: no line '[START - END] NAME EMOTION"),
        ("fluent_speech_commands", "data/train_data.csv",
         "path,speakerId,transcription,action,object,location\n" + "x" * 5000 + ",s,t,a,o,l\n", "no such file"),
        ("speech_commands", "speech_commands_v0.01/_background_noise_/tap.wav", "no sound", "cannot be read as audio"),
    ],
)  # fmt: skip
def test_lists_of_another_form_are_one_line(tmp_path, monkeypatch, capsys, name, file, content, words):
    monkeypatch.chdir(tmp_path)
    CORPORA[name](tmp_path / "corpus")
    (tmp_path / "away.wav").touch()
    (tmp_path / "corpus" / file).write_text(content)
    assert main(["corpus", name, "corpus", "--out", "listed"]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not list(tmp_path.glob("listed/*.jsonl"))


def test_an_unknown_corpus_is_refused(capsys):
    assert main(["corpus", "timit", "corpus", "--out", "listed"]) == 2
    assert "name = 'timit': choose 'audio_snips', " in capsys.readouterr().err
