"""`jepa_speech.transcribe`."""

import pytest
from support.audio_files import write_tones
from support.exported_runs import ctc_config, ctc_run, small_config

import jepa_speech
from jepa_speech.errors import UsageError
from jepa_speech.files import write_jsonl


def test_rows_are_returned_written_and_handed_over_one_by_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = ctc_run(tmp_path / "run", ctc_config(small_config("hubert")))
    write_tones(tmp_path / "in", 2, 0.5)
    write_jsonl("m.jsonl", [{"audio_path": "in/tone000.wav", "text": "abc"}, {"audio_path": "in/tone001.wav"}])
    found = jepa_speech.transcribe(run, "in")
    assert found["recordings"] == 2 and found["scored"] == 0 and "wer" not in found
    texts = [row["hypothesis"] for row in found["rows"]]
    assert all(texts) and [row["audio_path"] for row in found["rows"]] == ["in/tone000.wav", "in/tone001.wav"]
    for done in (False, True):
        each = []
        found = jepa_speech.transcribe(run, manifest="m.jsonl", out="out.jsonl", each=each.append)
        assert each == found["rows"] and found["already_complete"] == done
        assert [row["hypothesis"] for row in each] == texts
        assert each[0]["wer"][1] == 1 and each[0]["cer"][1] == 3 and each[1].keys() == {"audio_path", "hypothesis"}
        errors, length = each[0]["cer"]
        assert (found["scored"], found["cer"]["value"]) == (1, errors / length)
    with pytest.raises(UsageError, match="and not both"):
        jepa_speech.transcribe(run)
    with pytest.raises(UsageError, match="beam 0: at least one"):
        jepa_speech.transcribe(run, "in", beam=0)
