"""What the encoder is trained on holds no recording that a probe tests on unseen speakers."""

import pytest

from jepa_speech.files import read_jsonl

CORPORA = ("librispeech", "fsdd", "emodb", "slu")


@pytest.mark.parametrize("part", ["", "large"])
def test_pretraining_holds_no_recording_of_a_held_out_split(speech_data, part):
    folder = speech_data / part
    seen = {(folder / row["audio_path"]).resolve().stem for row in read_jsonl(folder / "pretrain.manifest.jsonl")}
    held_out = {
        (corpus / row["audio_path"]).resolve().stem
        for corpus in (speech_data / name for name in CORPORA)
        for split in ("valid", "test")
        for row in read_jsonl(corpus / f"{split}.manifest.jsonl")
    }
    assert len(seen) > 1000 and len(held_out) > 500
    assert not seen & held_out
