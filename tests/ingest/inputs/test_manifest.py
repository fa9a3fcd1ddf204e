"""What is listed, in which order, and what is wrong with a line."""

import json
import os
import tracemalloc
from pathlib import Path

import pytest
from support.audio_files import write_tones

from jepa_speech.errors import UserError
from jepa_speech.ingest.inputs.entry import Entry
from jepa_speech.ingest.manifest import entries
from jepa_speech.store.duplicates import listed_once
from jepa_speech.store.writing import json_line


@pytest.fixture
def corpus(tmp_path):
    write_tones(tmp_path / "audio", 3)
    return tmp_path


def listed(corpus, *lines):
    """The entries of a manifest with these lines (dicts, or raw bytes)."""
    path = corpus / "m.jsonl"
    path.write_bytes(b"".join(line if isinstance(line, bytes) else json_line(line) for line in lines))
    return list(entries([path]))


def test_folder_in_order_with_audio_only(tmp_path):
    for name in (
        "b/2.FLAC",
        "b/10.wav",
        "a.ogg",
        "c/x.opus",
        "c/é.mp3",
        "notes.txt",
        "x.m4a",
        "c/._x.opus",
        ".hidden.wav",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"?")
    found = list(entries([tmp_path]))
    assert [entry.source for entry in found] == ["a.ogg", "x.m4a", "b/10.wav", "b/2.FLAC", "c/x.opus", "c/é.mp3"]
    assert all(Path(entry.path).is_absolute() and not entry.reason for entry in found)


def once(*inputs):
    """The entries of inputs as `prepare` gets them: with duplicates refused."""
    return [Entry(**json.loads(line)) for line, _ in listed_once(entries(inputs))]


def test_folder_links_are_followed_once(corpus, tmp_path):
    (corpus / "audio" / "again").symlink_to(corpus, target_is_directory=True)
    (corpus / "linked").symlink_to(corpus / "audio", target_is_directory=True)
    assert len(list(entries([corpus]))) == 3


def test_file_name_that_is_not_utf8(tmp_path):
    try:
        write_tones(tmp_path, 1)[0].rename(os.fsdecode(os.fsencode(tmp_path) + b"/n\xe4me.wav"))
    except OSError:
        pytest.skip("this file system allows UTF-8 names only")
    (entry,) = entries([tmp_path])
    assert Entry(**json.loads(json_line(entry.__dict__))).path == entry.path


@pytest.mark.parametrize("key", ["audio_path", "wav_path", "path", "audio_filepath"])
def test_every_path_key(corpus, key):
    (entry,) = listed(
        corpus, {key: "audio/tone000.wav", "text": "été", "speaker": None, "slots": {"a": "b"}, "id": "u1"}
    )
    assert (entry.source, entry.line, entry.reason) == ("audio/tone000.wav", 1, "")
    assert entry.labels == {"text": "été", "slots": {"a": "b"}, "manifest_id": "u1"}


def test_paths_are_relative_to_the_manifest(corpus, monkeypatch):
    (corpus / "lists").mkdir()
    monkeypatch.chdir(corpus / "lists")
    (corpus / "lists" / "m.jsonl").write_bytes(json_line({"path": "../audio/tone001.wav"}))
    (entry,) = entries(["m.jsonl"], root="..")
    assert not entry.reason and Path(entry.path).samefile(corpus / "audio" / "tone001.wav")
    (entry,) = entries(["m.jsonl"])
    assert entry.reason == "outside_root"
    with pytest.raises(UserError, match="--root none"):
        next(entries(["m.jsonl"], root="none"))


GOOD = {"audio_path": "audio/tone000.wav"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not json\n", "bad_json"),
        (b'{"audio_path": "audio/tone000.wav"\n', "bad_json"),
        (b'{"audio_path": "audio/\xff.wav"}\n', "bad_json"),
        (b"[" * 100_000 + b"\n", "bad_json"),
        (b"[1, 2]\n", "not_an_object"),
        (b'{"audio_path": "audio/tone000.wav", "text": "a", "text": "b"}\n', "bad_json"),
        (b'{"audio_path": "audio/tone000.wav", "slots": {"a": 1, "a": 2}}\n', "bad_json"),
        ({"text": "x"}, "no_audio_path"),
        ({"audio_path": None}, "no_audio_path"),
        ({"audio_path": 7}, "no_audio_path"),
        ({"audio_path": "audio/none.wav"}, "missing"),
        ({"audio_path": "/nonexistent/x.wav"}, "outside_root"),
        ({"audio_path": "audio/\0.wav"}, "unreadable"),
        (GOOD | {"duration": -1}, "bad_duration"),
        (GOOD | {"duration": 0}, "bad_duration"),
        (GOOD | {"duration": "0.2"}, "bad_duration"),
        (GOOD | {"duration": True}, "bad_duration"),
        (GOOD | {"duration": float("nan")}, "bad_duration"),
        (GOOD | {"duration": 10**400}, "bad_duration"),
        (GOOD | {"duration": None}, ""),
        (b'\xef\xbb\xbf{"audio_path": "audio/tone000.wav"}\r\n', ""),
    ],
)
def test_verdict_on_a_line(corpus, line, reason):
    (entry,) = listed(corpus, b"\n", line, b"  \n")
    assert (entry.reason, entry.line) == (reason, 2)
    assert bool(entry.detail) == bool(reason)


def test_duplicates_count_only_against_usable_lines(corpus):
    bad, good = GOOD | {"duration": -1}, {"audio_path": "audio/../audio/tone000.wav"}
    listed(corpus, bad, GOOD, good, {"audio_path": str(corpus / "audio" / "tone000.wav")})
    found = once(corpus / "m.jsonl")
    assert [entry.reason for entry in found] == ["bad_duration", "", "duplicate", "duplicate"]
    assert "line 2 of" in found[2].detail
    found = once(corpus / "audio", corpus / "m.jsonl")
    assert [entry.reason for entry in found] == [""] * 3 + ["bad_duration"] + ["duplicate"] * 3
    assert "tone000.wav" in found[-1].detail


def test_two_segments_of_one_file_are_no_duplicates(corpus):
    stretches = [(0, 0.1), (0, 0.1), (0.1, 0.1), (0, 0.15), (0.0, 0.1)]
    listed(corpus, GOOD, *(GOOD | {"offset": start, "duration": seconds} for start, seconds in stretches))
    assert [entry.reason for entry in once(corpus / "m.jsonl")] == ["", "", "duplicate", "", "", "duplicate"]


def test_a_link_to_a_recording_is_a_duplicate(corpus):
    (corpus / "audio" / "z.wav").symlink_to("tone000.wav")
    assert [entry.reason for entry in once(corpus / "audio")] == ["", "", "", "duplicate"]


def test_equal_hashes_alone_make_no_duplicate(corpus, monkeypatch):
    monkeypatch.setattr(Entry, "key", lambda entry: bytes(8))
    assert [entry.reason for entry in once(corpus / "audio")] == [""] * 3


def test_the_list_says_all_that_an_entry_says(corpus):
    row = GOOD | {"offset": 0.1, "duration": 0.05, "text": "x", "slots": {"a": 1}}
    (entry,) = listed(corpus, row)
    assert once(corpus / "m.jsonl") == [entry]


def test_inputs_that_are_neither_folder_nor_manifest(corpus):
    with pytest.raises(UserError, match="no such folder or manifest"):
        next(entries([corpus / "audio", corpus / "none"]))
    with pytest.raises(UserError, match="name a folder"):
        next(entries([corpus / "audio" / "tone000.wav"]))


def test_the_list_takes_a_few_bytes_of_memory_per_entry():
    """Numbers in arrays, not an object each: those alone would take a hundred bytes."""

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            for _ in listed_once(Entry(source=f"{i}.wav", path=f"/{i}.wav", stamp=(9, 9)) for i in range(count)):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)
    assert (peak(12_000) - peak(2_000)) / 10_000 < 64
