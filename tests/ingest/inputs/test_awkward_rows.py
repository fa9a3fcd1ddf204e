"""Rows that are wrong, in every kind of manifest: named one by one, and no sound row refused."""

import pytest
from support.audio_files import write_tones
from support.input_writers import jsonl

from jepa_speech.errors import UserError
from jepa_speech.ingest.inputs.passed_over import PassedOver
from jepa_speech.ingest.inputs.rows import PATH_KEYS
from jepa_speech.ingest.manifest import entries
from jepa_speech.store.checking import FIXES

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
    "an ID and another column of paths": (("ID", "file_name", "text"), ("a", WAV, "x"), ""),
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
    good = ["b" if column == "ID" else "tone001.wav" if column in PATH_KEYS else "" for column in header]
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
    "an open quote": (f'path,text\n{WAV},"x\n{WAV},y\n', ":2: a quote is not closed"),
    "an open quote at the end": (f'path,text\n{WAV},x\n{WAV},"y\n', ":3: a quote is not closed"),
    "two open quotes": (f'path,text\n{WAV},"x\n{WAV},y\n{WAV},"z"\n', ":2: a quote is not closed"),
    "a column twice": (f"path,text,text\n{WAV},x,y\n", ":1: its header has the column 'text' twice"),
    "a header in latin-1": (b"path,caf\xe9\na.wav,x\n", ":1: not UTF-8 (byte 0xe9"),
    "JSON that breaks off": ('[{"path": "a.wav"},\n {"path": "b.wav"}', "is incomplete"),
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
    with pytest.raises(UserError, match=r"has metadata\.csv and metadata\.jsonl; name one as --input"):
        list(entries([tmp_path]))


SMALL = {  # manifests that lie in a folder of recordings, and are none that belongs to it
    "metadata.csv": f"original_file_name,text\n{WAV},x\n",
    "recordings.jsonl": f'\n{{"audio_path": "{WAV}", "text": "x"}}\n',
    "metadata.jsonl": f'{{"audio_path": "{WAV}", "note": "file_name"}}\n',
}


@pytest.mark.parametrize("contents", ["other", "empty"])
@pytest.mark.parametrize("name", SMALL)
def test_a_file_that_only_has_a_special_name_is_a_manifest_to_be_named(name, contents, tmp_path):
    write_tones(tmp_path, 1)
    (tmp_path / name).write_text(SMALL[name] if contents == "other" else "")
    passed = PassedOver()
    assert [(entry.source, entry.labels) for entry in entries([tmp_path], None, passed)] == [(WAV, {})]
    assert passed.found == {"manifest": {(tmp_path / name).suffix: {"count": 1, "first": name}}}


def test_an_id_beside_an_end_is_not_speechbrain_s(tmp_path):
    """Whole seconds would be taken for numbers of samples."""
    write_tones(tmp_path, 1)
    (tmp_path / "m.csv").write_text(f"ID,path,start,end\nu,{WAV},0,1\n")
    passed = PassedOver()
    (entry,) = entries([tmp_path / "m.csv"], None, passed)
    assert not entry.is_segment and entry.labels == {"manifest_id": "u", "manifest_start": 0, "end": 1}
    assert passed.found["segment"]["m.csv"]["count"] == 1


def test_an_id_beside_an_offset_is_nemo_s(tmp_path):
    write_tones(tmp_path, 1)
    (entry,) = listed(tmp_path, "m.csv", f"ID,path,offset,duration\nu,{WAV},0.05,0.1\n")
    assert (entry.start, entry.seconds, entry.labels) == (0.05, 0.1, {"manifest_id": "u"})
