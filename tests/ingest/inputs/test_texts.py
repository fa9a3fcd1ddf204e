"""The text of a recording: the words of its cut, in any encoding of the file."""

import gzip
import json

import pytest
from support.audio_files import write_tones
from support.input_writers import jsonl, tar_of

from jepa_speech.errors import UserError
from jepa_speech.ingest.inputs.passed_over import PassedOver
from jepa_speech.ingest.manifest import entries


def cut(*supervisions, start=1.0, seconds=2.0, **more):
    source = {"type": "file", "channels": [0], "source": "tone000.wav"}
    recording = {"id": "r", "sources": [source], "sampling_rate": 16_000, "num_samples": 160_000, "duration": 10.0}
    return {
        "id": "c", "type": "MonoCut", "start": start, "duration": seconds, "channel": 0,
        "supervisions": list(supervisions), "recording": recording,
    } | more  # fmt: skip


def said(start, seconds, text="x", **more):
    return {"id": "s", "recording_id": "r", "start": start, "duration": seconds, "channel": 0, "text": text} | more


def one_cut(folder, row):
    """The entry of a manifest of this cut, and how many texts were left out."""
    write_tones(folder, 1)
    passed = PassedOver()
    (entry,) = entries([jsonl(folder / "cuts.jsonl", [row])], None, passed)
    notes = passed.found.get("text", {"cuts.jsonl": {"count": 0}})
    return entry, notes["cuts.jsonl"]["count"]


@pytest.mark.parametrize(
    ("supervisions", "text"),
    [
        ([said(0.2, 0.5, "in"), said(1.0, 0.5, "it")], "in it"),
        ([said(1.0, 0.5, "it"), said(0.2, 0.5, "in")], "in it"),  # whatever their order in the file
        ([said(0.0, 2.0, "all")], "all"),
        ([said(-0.015, 2.03, "all, rounded")], "all, rounded"),
        ([said(-3.0, 3.0, "before"), said(0.5, 0.5, "in"), said(2.0, 1.0, "after")], "in"),
        ([said(-3.0, 3.01, "before"), said(1.99, 4.0, "after")], None),
        ([said(-1.0, 2.0, "begins before"), said(1.2, 0.5, "in")], False),
        ([said(0.2, 0.5, "in"), said(1.5, 0.6, "ends after")], False),
        ([said(-1.0, 9.0, "longer than the cut")], False),
        ([said(0.0, 2.05, "a little longer")], False),
        ([{"text": "no time"}], False),
        ([said(0.2, None, "no duration")], False),
        ([said(0.2, 0.5, "other channel", channel=1)], False),
        ([said(-1.0, 2.0, None), said(1.2, 0.5, "in")], "in"),  # whatever was said before, no word of it is a label
        ([said(0.2, 0.5, None), said(0.8, 0.5, "")], None),
        ([], None),
    ],
)
def test_a_cut_has_the_words_that_are_said_in_it(supervisions, text, tmp_path):
    """False: some are said only in part, so it has no text, and that is counted."""
    entry, left_out = one_cut(tmp_path, cut(*supervisions))
    assert not entry.reason and entry.labels.get("text") == (text or None)
    assert left_out == (text is False)
    entry, _ = one_cut(tmp_path, cut(*supervisions) | {"supervisions": None})
    assert not entry.reason and entry.labels == {"manifest_id": "c"}


def test_speakers_are_those_who_speak_in_the_cut(tmp_path):
    before, inside, partly = (
        said(at, 1.0, speaker=who, language="en") for at, who in ((-5, "a"), (0.5, "b"), (1.5, 7))
    )
    assert one_cut(tmp_path, cut(before, inside))[0].labels["speaker"] == "b"
    entry, _ = one_cut(tmp_path, cut(inside, partly))
    assert "speaker" not in entry.labels and entry.labels["language"] == "en"
    assert one_cut(tmp_path, cut(before, partly))[0].labels["speaker"] == 7


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": 7}, {"text": ["x"]}, {"text": True}, {"speaker": ["a"]}, {"gender": 1.5}, {"language": {}},
        {"start": "0:01"}, {"start": [1]}, {"duration": "1"}, {"duration": -1.0}, {"start": float("nan")},
        {"duration": True}, {"start": 10**400},
    ],
)  # fmt: skip
def test_a_wrong_type_in_a_supervision_is_a_reject(wrong, tmp_path):
    entry, _ = one_cut(tmp_path, cut(said(0.2, 0.5), said(1.0, 0.5) | wrong))
    assert entry.reason == "bad_label" and next(iter(wrong)) in entry.detail
    for supervisions in ("x", {}, [1], [None]):
        assert one_cut(tmp_path, cut() | {"supervisions": supervisions})[0].reason == "bad_label"


def test_a_segment_of_a_nemo_manifest_has_its_row_s_text(tmp_path):
    write_tones(tmp_path, 1)
    row = {"audio_filepath": "tone000.wav", "offset": 0.1, "duration": 0.05, "text": "x"}
    (entry,) = entries([jsonl(tmp_path / "m.json", [row])])
    assert (entry.start, entry.seconds, entry.labels) == (0.1, 0.05, {"text": "x"})


MARK = b"\xef\xbb\xbf"
WORDS = "café 学 naïve"


def as_rows(folder, text: bytes, mark: bytes):
    path = folder / "m.jsonl"
    path.write_bytes(mark + b'{"path": "tone000.wav", "text": "' + text + b'"}\r\n')
    return path


def as_packed_rows(folder, text: bytes, mark: bytes):
    path = folder / "m.jsonl.gz"
    path.write_bytes(gzip.compress(as_rows(folder, text, mark).read_bytes()))
    return path


def as_chapter(folder, text: bytes, mark: bytes):
    (folder / "1" / "2").mkdir(parents=True)
    (folder / "tone000.wav").rename(folder / "1" / "2" / "1-2-0.wav")
    (folder / "1" / "2" / "1-2.trans.txt").write_bytes(mark + b"1-2-0 " + text + b"\r\n")
    return folder


def as_kaldi(folder, text: bytes, mark: bytes):
    (folder / "wav.scp").write_bytes(mark + b"a tone000.wav\n")
    (folder / "text").write_bytes(mark + b"\na " + text + b"\r\n")
    return folder


def as_fairseq(folder, text: bytes, mark: bytes):
    (folder / "m.tsv").write_bytes(mark + b".\ntone000.wav\t3200\n")
    (folder / "m.wrd").write_bytes(mark + text + b"\r\n")
    return folder / "m.tsv"


def as_sidecar(folder, text: bytes, mark: bytes):
    return tar_of(folder / "x.tar", {"a.wav": (folder / "tone000.wav").read_bytes(), "a.txt": mark + text + b"\r\n"})


KINDS = [as_rows, as_packed_rows, as_chapter, as_kaldi, as_fairseq, as_sidecar]


@pytest.mark.parametrize("kind", KINDS)
def test_utf8_is_read_with_and_without_its_mark(kind, tmp_path):
    for mark in (b"", MARK):
        folder = tmp_path / mark.hex()
        write_tones(folder, 1)
        (entry,) = entries([kind(folder, WORDS.encode(), mark)])
        assert entry.labels["text"] == WORDS and not entry.reason


@pytest.mark.parametrize("kind", KINDS)
def test_other_encodings_are_named_with_file_line_and_byte(kind, tmp_path):
    write_tones(tmp_path, 1)
    try:
        (entry,) = entries([kind(tmp_path, "café".encode("latin-1"), b"")])
    except UserError as error:
        message = str(error)
        assert str(tmp_path) in message.split(": ")[0] and message.split(": ")[0].rpartition(":")[2] in ("1", "2")
    else:  # one line of a manifest, or one recording of an archive
        message = entry.detail
        assert entry.reason == "bad_json" and entry.manifest and "\n" not in message
    assert "not UTF-8 (byte 0xe9 at position" in message and "iconv" in message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
@pytest.mark.parametrize("name", ["m.jsonl", "wav.scp", "text", "1-2.trans.txt", "m.tsv", "m.wrd"])
def test_utf16_is_named_with_its_file(encoding, name, tmp_path):
    folder = tmp_path / "1" / "2"
    write_tones(folder, 1)[0].rename(folder / "1-2-0.wav")
    rows = {"m.jsonl": json.dumps({"path": "1-2-0.wav"}), "m.tsv": ".\n1-2-0.wav\n", "m.wrd": "x\n"}
    rows |= {"wav.scp": "a 1-2-0.wav\n", "text": "a x\n", "1-2.trans.txt": "1-2-0 x\n"}
    needs = {"text": ["wav.scp"], "m.wrd": ["m.tsv"]}.get(name, [])
    for other in needs:
        (folder / other).write_text(rows[other])
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (folder / name).write_bytes((mark + rows[name]).encode(encoding))
    source = {"m.jsonl": folder / "m.jsonl", "m.tsv": folder / "m.tsv", "m.wrd": folder / "m.tsv"}.get(name, folder)
    with pytest.raises(UserError, match=rf"{name}:1: .*iconv"):
        list(entries([source]))
