"""`jepa_speech.export_hf` and `import_hf`; tests/parity runs what the exports write."""

import json

import numpy as np
import pytest
from support.exported_runs import ctc_config, ctc_run, own_config, small_config, small_run

import jepa_speech
from jepa_speech.errors import UserError
from jepa_speech.training.checkpoint import read_weights


def test_an_export_of_our_own_encoder_is_imported(tmp_path):
    run = small_run(tmp_path / "run", own_config("logmel"))
    exported = jepa_speech.export_hf(run, tmp_path / "hf", step="latest")
    assert exported == exported | {"out": str(tmp_path / "hf"), "step": 0, "class": "JepaSpeechModel"}
    assert {path.name for path in (tmp_path / "hf").iterdir()} == set(exported["files"])
    assert not exported["writes_texts"]
    imported = jepa_speech.import_hf(tmp_path / "hf", tmp_path / "again")
    assert imported["run"] == str(tmp_path / "again") and imported["objective"] == "gmm_jepa"
    (_, before), (_, after) = read_weights(run), read_weights(tmp_path / "again")
    encoder = [name for name in before if name.startswith("params/encoder/")]
    assert len(encoder) > 20
    for name in encoder:
        np.testing.assert_array_equal(after[name], before[name])
    with pytest.raises(UserError, match="imported there before; remove it, or choose another out"):
        jepa_speech.import_hf(tmp_path / "hf", tmp_path / "again")


def test_a_ctc_run_keeps_its_vocabulary(tmp_path):
    run = ctc_run(tmp_path / "run", ctc_config(small_config("hubert")))
    exported = jepa_speech.export_hf(run, tmp_path / "hf")
    assert exported["writes_texts"] and exported["class"] == "Wav2Vec2ForCTC"
    imported = jepa_speech.import_hf(tmp_path / "hf", tmp_path / "again")
    assert imported["classes"] == len(json.loads((tmp_path / "hf" / "vocab.json").read_text()))
