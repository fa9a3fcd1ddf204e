"""Rows that are wrong in the manifests of recipes (Kaldi, Lhotse, WeNet, SpeechBrain's JSON), named one by one."""

import json

import pytest
import soundfile
from support.audio_files import tone, write_tones
from support.input_writers import jsonl

from jepa_speech.errors import UserError
from jepa_speech.ingest.inputs.passed_over import PassedOver
from jepa_speech.ingest.manifest import entries

WAV = "tone000.wav"  # 0.2 s; as is tone001.wav


def written(path, text):
    path.write_text(text)
    return path


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


def test_an_utterance_of_two_speakers_is_named_with_its_lines(tmp_path):
    write_tones(tmp_path, 1)
    (tmp_path / "wav.scp").write_text(f"a {WAV}\n")
    (tmp_path / "spk2utt").write_text("s1 x y z a\n\ns2 a\n")
    (entry,) = entries([tmp_path])
    assert entry.reason == "bad_label" and "spk2utt with different contents, lines 1 and 3; keep one" in entry.detail


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
    if reason == "duplicate":  # with blank lines, which count
        (tmp_path / "recordings_x.jsonl").write_text(
            "\n\n" + "\n\n".join(json.dumps(one) for one in [recording("a"), recording("b"), *twice])
        )
    for inputs in ([other], [tmp_path / "recordings_x.jsonl"], [other, tmp_path / "recordings_x.jsonl"]):
        first, second = entries(inputs, None, passed)
        assert (first.reason, first.labels["text"], first.seconds, first.line) == ("", "good", 0.1, 1)
        assert (second.reason, second.line) == (reason, 2)
        assert reason != "duplicate" or "with different contents, lines 7 and 9; keep one" in second.detail
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
    with pytest.raises(UserError, match="the file of recordings is missing; put it beside this file"):
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
    first, second = entries(
        [written(tmp_path / "m.json", json.dumps({"good": {"wav": f"{{root}}/{WAV}"}, "other": row}))]
    )
    assert (first.reason, first.labels, second.reason) == ("", {"manifest_id": "good"}, reason)


def test_samples_of_speechbrain_are_counted_at_the_rate_of_the_file(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(1.0), 8_000)
    (entry,) = entries([written(tmp_path / "m.csv", "ID,wav,start,stop\nu,$data_root/a.wav,2000,6000\n")])
    assert (entry.source, entry.start, entry.seconds) == ("a.wav", 0.25, 0.5)


def test_an_array_of_recordings(tmp_path):
    write_tones(tmp_path, 2)
    rows = [recording("a"), recording("b", "tone001.wav")]
    found = entries([written(tmp_path / "recordings.json", json.dumps(rows, indent=2))])
    assert [(entry.source, entry.reason) for entry in found] == [(WAV, ""), ("tone001.wav", "")]


def test_json_by_id_may_name_its_files_as_nemo_does(tmp_path):
    write_tones(tmp_path, 2)
    rows = {"u": {"audio_filepath": WAV, "text": "x"}, "v": {"filename": "tone001.wav", "offset": 0.1, "duration": 0.1}}
    (tmp_path / "m.json").write_text(json.dumps(rows, indent=1))
    first, second = entries([tmp_path / "m.json"])
    assert (first.source, first.labels, first.reason) == (WAV, {"manifest_id": "u", "text": "x"}, "")
    assert (second.source, second.start, second.seconds, second.reason) == ("tone001.wav", 0.1, 0.1, "")
