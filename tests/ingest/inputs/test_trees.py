"""Folder trees of public corpora in their published layout: every recording with its labels."""

import json
from pathlib import Path

import pytest
import soundfile
from support.audio_files import tone

from jepa_speech.errors import UserError
from jepa_speech.ingest.inputs.passed_over import PassedOver
from jepa_speech.ingest.manifest import entries
from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store


def clip(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {"format": "OGG", "subtype": "OPUS"} if path.suffix == ".opus" else {}
    soundfile.write(path, tone(0.2, seed), 16_000, **kind)


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def speech_commands(root: Path) -> tuple[dict, dict]:
    names = ["bed/00176480_nohash_0.wav", "bed/00176480_nohash_1.wav", "yes/0a7c2a8d_nohash_0.wav"]
    for i, name in enumerate([*names, "_background_noise_/white_noise.wav"]):
        clip(root / name, i)
    text(root / "validation_list.txt", names[0])
    text(root / "testing_list.txt", names[2])
    text(root / "README.md", "Speech Commands Data Set v0.02")
    wanted = {name: {"label": name[:3], "speaker": name[4:12]} for name in names}
    return wanted | {"_background_noise_/white_noise.wav": {}}, {}


def speech_commands_test_set(root: Path) -> tuple[dict, dict]:
    """With a word that the pattern of names does not match, beside another one."""
    folder = "speech_commands_test_set_v0.02"
    names = {"_silence_/0.wav": {}, "_unknown_/bird_1b4c9b89_nohash_3.wav": {"speaker": "1b4c9b89"}}
    names |= {"no/1b4c9b89_nohash_0.wav": {"speaker": "1b4c9b89"}}
    for i, name in enumerate(names):
        clip(root / folder / name, i)
    return {f"{folder}/{name}": {"label": name.split("/")[0]} | more for name, more in names.items()}, {}


def voxceleb1(root: Path) -> tuple[dict, dict]:
    wanted = {}
    for i, speaker in enumerate(("id10001", "id11251")):
        for video in ("1zcIwhmdeo4", "-_x"):
            name = f"{'dev' if i else 'test'}/wav/{speaker}/{video}/0000{i + 1}.wav"
            clip(root / name, len(wanted))
            wanted[name] = {"speaker": speaker, "video": video}
    text(root / "iden_split.txt", "1 id10001/1zcIwhmdeo4/00001.wav")
    return wanted, {}


def mls(root: Path) -> tuple[dict, dict]:
    """Two splits, in both formats, one text without its recording, one recording without a text."""
    wanted = {}
    for split in ("dev", "train"):
        names = ["1582_1274_000000", "1582_1274_000001", "1582_1279_000000", "2422_1360_000000"]
        for i, name in enumerate(names):
            speaker, book, _ = name.split("_")
            place = f"{split}/audio/{speaker}/{book}/{name}{'.opus' if i == 1 else '.flac'}"
            clip(root / place, len(wanted))
            wanted[place] = {"speaker": speaker, "book": book} | ({"text": f"für {split} {i}"} if i != 2 else {})
        lost = "9999_1_000000\tgone"
        text(root / split / "transcripts.txt", lost, *(f"{n}\tfür {split} {i}" for i, n in enumerate(names) if i != 2))
        text(root / split / "segments.txt", f"{names[0]}\thttp://www.archive.org/x_64kb.mp3\t1.5\t15.66")
    limited = root / "train" / "limited_supervision"
    text(limited / "9hr" / "handles.txt", "1582_1274_000000")
    text(limited / "1hr" / "3" / "handles.txt", "2422_1360_000000")
    wanted["train/audio/1582/1274/1582_1274_000000.flac"]["limited_supervision"] = "9hr"
    wanted["train/audio/2422/1360/2422_1360_000000.flac"]["limited_supervision"] = "1hr/3"
    text(root / "metainfo.txt", "SPEAKER | GENDER | PARTITION")
    return wanted, {"label": {"transcripts.txt": {"count": 2, "first": f"9999_1_000000 in {root}/dev/transcripts.txt"}}}


TREES = {make.__name__: make for make in (speech_commands, speech_commands_test_set, voxceleb1, mls)}


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("awkward", [False, True])
def test_each_recording_has_the_labels_of_its_place(name, awkward, tmp_path):
    """Also with the files that macOS leaves, byte order marks and Windows' ends of lines."""
    root = tmp_path / "corpus"
    wanted, passed_over = TREES[name](root)
    if awkward:
        for path in sorted(root.rglob("*.*")):
            if path.is_file():
                path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        \260\377")
                if path.suffix == ".txt":
                    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    passed = PassedOver()
    found = {entry.source: entry for entry in entries([root], None, passed)}
    assert {source: entry.labels for source, entry in found.items()} == wanted
    assert not any(entry.reason for entry in found.values())
    assert {kind: whats for kind, whats in passed.found.items() if kind != "hidden"} == passed_over
    if not awkward:
        prepare([root], tmp_path / "store", "pcm16", workers=1)
        rows = {row.pop("source"): row for row in Store(tmp_path / "store").records()}
        own = ("id", "duration", "rate")
        assert {source: {k: v for k, v in row.items() if k not in own} for source, row in rows.items()} == wanted


def test_parts_of_a_tree(tmp_path):
    wanted, _ = mls(tmp_path / "mls_german")
    for part in ("", "train", "train/audio"):
        for entry in entries([tmp_path / "mls_german" / part]):
            assert entry.labels == wanted["/".join(filter(None, (part, entry.source)))]
    wanted, _ = speech_commands(tmp_path / "words")
    for word in ("bed", "yes", "_background_noise_"):
        for entry in entries([tmp_path / "words" / word]):
            assert entry.labels == wanted[f"{word}/{entry.source}"]


def test_two_splits_at_once_and_other_folders_between(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        wanted, _ = mls(tmp_path / name)
        clip(tmp_path / name / "zz" / "1582" / "1274" / "1582_1274_000000.flac")
        clip(tmp_path / name / "train" / "audio" / "1582" / "1274" / "other.flac")
    wanted |= {"zz/1582/1274/1582_1274_000000.flac": {}, "train/audio/1582/1274/other.flac": {}}
    both = [
        (entry.source, json.dumps(entry.labels, sort_keys=True)) for entry in entries([tmp_path / "a", tmp_path / "b"])
    ]
    assert sorted(both) == sorted((name, json.dumps(said, sort_keys=True)) for name, said in [*wanted.items()] * 2)


def test_texts_of_another_encoding_are_named(tmp_path):
    mls(tmp_path)
    path = tmp_path / "dev" / "transcripts.txt"
    path.write_bytes("1582_1274_000000\tfür\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"dev/transcripts.txt:1: not UTF-8 \(byte 0xfc"):
        list(entries([tmp_path]))
