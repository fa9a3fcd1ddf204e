"""Rows that are wrong, in every kind of manifest: named one by one, and no sound row refused."""

import json

import pytest
import soundfile
from tones import tone, write_tones
from writers import jsonl

from jepa_speech.data.checking import FIXES
from jepa_speech.data.inputs.passed_over import PassedOver
from jepa_speech.data.manifest import entries
from jepa_speech.errors import UserError

WAV = "tone000.wav"  # 0.2 s; as is tone001.wav


def listed(folder, name, contents):
    """The entries of a manifest, which is written first."""
    data = contents if isinstance(contents, bytes) else contents.encode()
    (folder / name).write_bytes(data)
    return list(entries([folder / name]))


def table(header, *rows, separator=","):
    return "".join(separator.join(row) + "\n" for row in (header, *rows))


TABLES = {  # header, row, reason
    "sound": (("path", "text"), (WAV, "x"), ""),
    "absent file": (("path", "text"), ("gone.wav", "x"), "missing"),
    "no path": (("path", "text"), ("", "x"), "no_audio_path"),
    "another column of paths": (("path", "file_name", "text"), ("", WAV, "x"), ""),
    "too few fields": (("path", "text", "speaker"), (WAV, "x"), "bad_row"),
    "an unquoted comma": (("path", "text"), (WAV, "yes", " no"), "bad_row"),
    "a quoted comma": (("path", "text"), (WAV, '"yes, no"'), ""),
    "a quote within": (("path", "text"), (WAV, 'the "x" one'), ""),
    "a time that is none": (("path", "duration"), (WAV, "0:05"), "bad_duration"),
    "a time that is not finite": (("path", "duration"), (WAV, "nan"), "bad_duration"),
    "an endless time": (("path", "duration"), (WAV, "1e999"), "bad_duration"),
    "a negative offset": (("path", "offset"), (WAV, "-0.1"), "bad_duration"),
    "no time": (("path", "duration", "offset"), (WAV, "", ""), ""),
    "latin-1": (("path", "text"), (WAV, "caf\udce9"), "bad_row"),
    "a URL": (("path", "text"), ("https://example.org/a.wav", "x"), "refused"),
    "outside": (("path", "text"), ("/etc/hostname", "x"), "outside_root"),
    "SpeechBrain's end before start": (("ID", "wav", "start", "stop"), ("a", WAV, "800", "400"), "bad_segment"),
    "SpeechBrain's seconds": (("ID", "wav", "start", "stop"), ("a", WAV, "0.05", "0.1"), "bad_segment"),
    "SpeechBrain's negative start": (("ID", "wav", "start", "stop"), ("a", WAV, "-1", "400"), "bad_segment"),
    "SpeechBrain's start alone": (("ID", "wav", "start", "stop"), ("a", WAV, "800", ""), ""),
    "SpeechBrain's end as start": (("ID", "wav", "start", "stop"), ("a", WAV, "0", "0"), ""),
    "SpeechBrain's path": (("ID", "wav"), ("a", ""), "no_audio_path"),
    "SpeechBrain's duration": (("ID", "duration", "wav"), ("a", "0", WAV), "bad_duration"),
    "SpeechBrain's absent file": (("ID", "wav", "start", "stop"), ("a", "$root/gone.wav", "0", "9"), "missing"),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_row_of_a_table(name, separator, tmp_path):
    write_tones(tmp_path, 2)
    header, row, reason = TABLES[name]
    if separator == "\t":
        row = [cell.replace('"yes, no"', '"yes\tno"') for cell in row]
    good = [{"path": "tone001.wav", "wav": "tone001.wav", "ID": "b"}.get(column, "") for column in header]
    text = table(header, row, good, separator=separator).encode("utf-8", "surrogateescape")
    first, second = listed(tmp_path, "m.csv", text)
    assert (first.reason, first.line) == (reason, 2) and (second.reason, second.source) == ("", "tone001.wav")
    assert bool(first.detail) == bool(reason) and (not reason or reason in FIXES)
    if reason == "" and "text" in header:
        assert first.labels["text"] == row[-1].strip('"')


COMMON = "client_id\tpath\tsentence\tgender\n"


def test_common_voice(tmp_path):
    """Its sentences hold quotes that are not closed, and its first versions left out the suffix."""
    for name in ("a.mp3", "b.mp3"):
        write_tones(tmp_path / "clips", 1)[0].rename(tmp_path / "clips" / name)
    rows = 's\ta.mp3\t"Oh, no\tmale\ns\tb\t"Why?" \'he\' said\t\ns\tgone.mp3\tx\t\ns\t\tx\t\n'
    first, second, gone, none = listed(tmp_path, "train.tsv", COMMON + rows)
    assert first.labels == {"speaker": "s", "text": '"Oh, no', "gender": "male"} and not first.reason
    assert second.labels == {"speaker": "s", "text": "\"Why?\" 'he' said"} and second.source == "b.mp3"
    assert (gone.reason, none.reason) == ("missing", "no_audio_path") and not second.reason
    passed = PassedOver()
    assert [entry.labels for entry in entries([tmp_path], None, passed)] == [{}, {}]
    assert passed.found["manifest"] == {".tsv": {"count": 1, "first": "train.tsv"}}


BROKEN = {
    "an open quote": (f'path,text\n{WAV},"x\n{WAV},y\n', ":2: a quote that is not closed"),
    "an open quote at the end": (f'path,text\n{WAV},x\n{WAV},"y\n', ":3: a quote that is not closed"),
    "two open quotes": (f'path,text\n{WAV},"x\n{WAV},y\n{WAV},"z"\n', ":2: a quote that is not closed"),
    "a column twice": (f"path,text,text\n{WAV},x,y\n", ":1: its header has the column 'text' twice"),
    "a header in latin-1": (b"path,caf\xe9\na.wav,x\n", ":1: not UTF-8 (byte 0xe9"),
    "JSON that breaks off": ('[{"path": "a.wav"},\n {"path": "b.wav"}', "breaks off"),
    "JSON with a wrong member": ('[{"path": "a.wav"},\n {"path": b.wav}]', ":2: not valid JSON"),
    "JSON with more behind": ('{"a": {"wav": "a.wav"}}\n{"b": {"wav": "b.wav"}, \n', ""),
    "an ID twice": ('{"a": {"wav": "a.wav"},\n\n "a": {"wav": "b.wav"}}', ":3: not valid JSON (the name 'a' twice)"),
    "a key twice": ('{"a": {"wav": "a.wav"},\n "b": {"wav": "b.wav", "wav": "c.wav"}}', ":2: not valid JSON"),
    "JSON in latin-1": (b'[{"path": "a.wav"},\n {"path": "caf\xe9.wav"}]', ":2: not UTF-8 (byte 0xe9"),
    "no comma": ('[{"path": "a.wav"}\n{"path": "b.wav"}]', ":2: not valid JSON (Expecting ','"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_manifest_that_cannot_be_read_on_is_one_line(name, tmp_path):
    write_tones(tmp_path, 1)
    contents, words = BROKEN[name]
    if not words:
        assert {entry.reason for entry in listed(tmp_path, "m.json", contents)} == {"no_audio_path", "bad_json"}
        return
    with pytest.raises(UserError) as caught:
        listed(tmp_path, "m.json", contents)
    assert str(caught.value).startswith(f"{tmp_path}/m.json") and words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-be", "utf-32-be"])
@pytest.mark.parametrize(
    "name", ["m.csv", "m.json", "m.list", "m.jsonl", "m.tsv", "wav.scp", "text", "supervisions.jsonl"]
)
def test_wide_encodings_are_named(name, encoding, tmp_path):
    texts = {"m.csv": table(("path",), (WAV,)), "m.json": f'[{{"path": "{WAV}"}}]', "m.tsv": f".\n{WAV}\n"}
    texts |= {"wav.scp": f"a {WAV}\n", "text": "a x\n"}
    if name == "text":
        (tmp_path / "wav.scp").write_text(texts["wav.scp"])
    mark = "\ufeff" if encoding.endswith("be") else ""
    text = texts.get(name, f'{{"path": "{WAV}"}}\n')
    (tmp_path / name).write_bytes((mark + text).encode(encoding))
    with pytest.raises(UserError, match=rf"{name}:1: {encoding.upper()[:6]} .*iconv -f {encoding.upper()[:6]}"):
        list(entries([tmp_path if name in ("wav.scp", "text") else tmp_path / name]))


KALDI = {  # wav.scp, segments, text, utt2spk; reason of each line
    "twice the same": (f"a {WAV}\na {WAV}\n", "", "a x\na x\n", "", ["", ""]),
    "a recording twice": (f"a {WAV}\na tone001.wav\nb {WAV}\n", "", "", "", ["duplicate", "duplicate", ""]),
    "of segments": (f"r {WAV}\nr tone001.wav\n", "u r 0 0.1\n", "", "", ["duplicate"]),
    "not of these segments": (f"r {WAV}\nr tone001.wav\ns {WAV}\n", "u s 0 0.1\n", "", "", [""]),
    "an utterance twice": (f"r {WAV}\n", "u r 0 0.1\nu r 0.1 0.2\nv r 0 0.1\n", "", "", ["duplicate"] * 2 + [""]),
    "two texts": (f"a {WAV}\nb {WAV}\n", "", "a x\na y\nb z\n", "", ["bad_label", ""]),
    "two speakers": (f"a {WAV}\n", "", "", "a s\na t\n", ["bad_label"]),
    "an end before its start": (f"r {WAV}\n", "u r 0.1 0.05\nv r 0.1 nan\nw r -1 1\n", "", "", ["bad_segment"] * 3),
    "an absent recording": (f"r {WAV}\n", "u q 0 0.1\n", "", "", ["missing"]),
    "an archive of ESPnet": ("a dump/raw/data.ark:17\n", "", "", "", ["refused"]),
}


@pytest.mark.parametrize("name", KALDI)
def test_a_kaldi_directory(name, tmp_path):
    write_tones(tmp_path, 2)
    *files, reasons = KALDI[name]
    for file, contents in zip(("wav.scp", "segments", "text", "utt2spk"), files, strict=True):
        if contents:
            (tmp_path / file).write_text(contents)
    found = list(entries([tmp_path]))
    assert [entry.reason for entry in found] == reasons
    if name == "a recording twice":
        assert "a is in " in found[1].detail and "lines 1 and 2" in found[1].detail


def test_labels_of_espnet(tmp_path):
    write_tones(tmp_path, 3)
    (tmp_path / "wav.scp").write_text("a tone000.wav\nb tone001.wav\nc tone002.wav\n")
    (tmp_path / "spk2utt").write_text("s1 a c\ns2 b gone\n")
    (tmp_path / "utt2lang").write_text("a eng\nb deu\n")
    (tmp_path / "utt2category").write_text("c clean\n")
    (tmp_path / "text").write_text("a x\nb\n")
    passed = PassedOver()
    first, second, third = (entry.labels for entry in entries([tmp_path], None, passed))
    assert first == {"manifest_id": "a", "text": "x", "speaker": "s1", "language": "eng"}
    assert second == {"manifest_id": "b", "text": "", "speaker": "s2", "language": "deu"}
    assert third == {"manifest_id": "c", "speaker": "s1", "category": "clean"}
    assert passed.found == {"label": {"spk2utt": {"count": 1, "first": f"gone in {tmp_path}/spk2utt"}}}


def recording(name, file=WAV, **more):
    source = {"type": "file", "channels": [0], "source": file}
    return {"id": name, "sources": [source], "sampling_rate": 16_000, "num_samples": 3200, "duration": 0.2} | more


def said(name, start=0.0, seconds=0.1, **more):
    return {"id": "s", "recording_id": name, "start": start, "duration": seconds, "channel": 0, "text": "x"} | more


SUPERVISIONS = {
    "sound": (said("a"), ""),
    "without channel": (said("a", channel=None), ""),
    "an absent recording": (said("c"), "missing"),
    "a negative start": (said("a", -0.1), "bad_duration"),
    "no end": (said("a", 0.0, None), "bad_duration"),
    "another channel": (said("a", channel=3), "refused"),
    "two recordings": (said("twice"), "duplicate"),
    "no recording": ({"id": "s", "text": "x"}, "bad_segment"),
    "no object": (["x"], "bad_segment"),
}


@pytest.mark.parametrize("name", SUPERVISIONS)
def test_a_supervision(name, tmp_path):
    write_tones(tmp_path, 2)
    row, reason = SUPERVISIONS[name]
    twice = [recording("twice"), recording("twice", "tone001.wav"), {"id": "x"}]
    jsonl(tmp_path / "recordings_x.jsonl", [recording("a"), recording("b"), *twice])
    other = jsonl(tmp_path / "supervisions_x.jsonl.gz", [said("b", text="good"), row])
    passed = PassedOver()
    for inputs in ([other], [tmp_path / "recordings_x.jsonl"], [other, tmp_path / "recordings_x.jsonl"]):
        first, second = entries(inputs, None, passed)
        assert (first.reason, first.labels["text"], first.seconds, first.line) == ("", "good", 0.1, 1)
        assert (second.reason, second.line) == (reason, 2)
    assert passed.found["recording"]["recordings_x.jsonl"]["count"] >= 3


def test_recordings_and_supervisions_alone(tmp_path):
    write_tones(tmp_path, 2)
    rows = [recording("a"), recording("b", "tone001.wav"), recording("c", "gone.wav")]
    found = list(entries([jsonl(tmp_path / "recordings.jsonl", rows)]))
    assert [(entry.reason, entry.labels, entry.is_segment) for entry in found] == [
        ("", {"manifest_id": "a"}, False), ("", {"manifest_id": "b"}, False), ("missing", {"manifest_id": "c"}, False),
    ]  # fmt: skip
    assert [entry.source for entry in entries([tmp_path])] == [entry.source for entry in found]
    (tmp_path / "recordings.jsonl").rename(tmp_path / "rec.jsonl")
    with pytest.raises(UserError, match="supervisions without their recordings: put them beside it"):
        list(entries([jsonl(tmp_path / "supervisions.jsonl", [said("a")])]))


WENET = {
    "sound": ({"wav": WAV, "txt": "x"}, ""),
    "a segment": ({"wav": WAV, "txt": "x", "start": 0.05, "end": 0.1}, ""),
    "an end before its start": ({"wav": WAV, "txt": "x", "start": 0.1, "end": 0.05}, "bad_segment"),
    "no end": ({"wav": WAV, "txt": "x", "start": 0.1}, "bad_segment"),
    "a time that is text": ({"wav": WAV, "txt": "x", "start": "0", "end": "0.1"}, "bad_segment"),
    "a path that is none": ({"wav": ["a.wav"], "txt": "x"}, "no_audio_path"),
    "an absent file": ({"wav": "gone.wav", "txt": "x"}, "missing"),
}


@pytest.mark.parametrize("name", WENET)
def test_a_row_of_wenet(name, tmp_path):
    write_tones(tmp_path, 1)
    row, reason = WENET[name]
    (entry,) = entries([jsonl(tmp_path / "data.list", [{"key": "u1"} | row])])
    assert entry.reason == reason
    if not reason:
        assert entry.labels == {"manifest_id": "u1", "text": "x"}
        assert (entry.start, entry.seconds) == ((0.05, 0.05) if "start" in row else (0.0, None))


SPEECHBRAIN = {
    "a list of one file": ({"wav": {"files": [WAV]}}, ""),
    "several files": ({"wav": {"files": [WAV, "tone001.wav"]}}, "refused"),
    "no file": ({"wav": {"start": 0}}, "no_audio_path"),
    "an end before its start": ({"wav": {"file": WAV, "start": 9, "stop": 1}}, "bad_segment"),
    "not finite": ({"wav": {"file": WAV, "start": float("nan"), "stop": 1}}, "bad_segment"),
    "no object": ([WAV], "not_an_object"),
    "a file that is no audio": ({"wav": {"file": "m.json", "start": 0, "stop": 99}}, "unreadable"),
}


@pytest.mark.parametrize("name", SPEECHBRAIN)
def test_a_row_of_speechbrain_s_json(name, tmp_path):
    write_tones(tmp_path, 2)
    row, reason = SPEECHBRAIN[name]
    first, second = listed(tmp_path, "m.json", json.dumps({"good": {"wav": f"{{root}}/{WAV}"}, "other": row}))
    assert (first.reason, first.labels, second.reason) == ("", {"manifest_id": "good"}, reason)


def test_samples_of_speechbrain_are_counted_at_the_rate_of_the_file(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(1.0), 8_000)
    (entry,) = listed(tmp_path, "m.csv", "ID,wav,start,stop\nu,$data_root/a.wav,2000,6000\n")
    assert (entry.source, entry.start, entry.seconds) == ("a.wav", 0.25, 0.5)


def test_metadata_in_folders_of_a_folder(tmp_path):
    """Of recordings that no row names, labels are absent; rows without a recording are rejects."""
    for split in ("test", "train"):
        write_tones(tmp_path / split / "wavs", 2)
        rows = f"file_name,transcription\nwavs/{WAV},{split}\n" + "wavs/gone.wav,x\n" * (split == "train")
        (tmp_path / split / "metadata.csv").write_text(rows)
    passed = PassedOver()
    found = {entry.source: (entry.reason, entry.labels) for entry in entries([tmp_path], None, passed)}
    assert found == {
        "test/wavs/tone000.wav": ("", {"text": "test"}),
        "test/wavs/tone001.wav": ("", {}),
        "train/wavs/gone.wav": ("missing", {"text": "x"}),
        "train/wavs/tone000.wav": ("", {"text": "train"}),
        "train/wavs/tone001.wav": ("", {}),
    }
    assert passed.found == {}
    jsonl(tmp_path / "test" / "metadata.jsonl", [{"file_name": "x.wav"}])
    with pytest.raises(UserError, match="are both there; name the one to read"):
        list(entries([tmp_path]))


def test_an_id_beside_an_offset_is_nemo_s(tmp_path):
    write_tones(tmp_path, 1)
    (entry,) = listed(tmp_path, "m.csv", f"ID,path,offset,duration\nu,{WAV},0.05,0.1\n")
    assert (entry.start, entry.seconds, entry.labels) == (0.05, 0.1, {"manifest_id": "u"})


def test_an_array_of_recordings(tmp_path):
    write_tones(tmp_path, 2)
    rows = [recording("a"), recording("b", "tone001.wav")]
    found = listed(tmp_path, "recordings.json", json.dumps(rows, indent=2))
    assert [(entry.source, entry.reason) for entry in found] == [(WAV, ""), ("tone001.wav", "")]
