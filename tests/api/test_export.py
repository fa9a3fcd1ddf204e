"""`jepa_speech.export_hf` and `import_hf`; tests/parity runs what the exports write."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from support.exported_runs import ctc_config, ctc_run, own_config, small_config, small_run

import jepa_speech
from jepa_speech.errors import UserError
from jepa_speech.huggingface.weights import read_folder
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


def test_in_bfloat16_weights_are_rounded_and_vectors_and_constants_are_not(tmp_path):
    run = small_run(tmp_path / "run", own_config("logmel"))
    for dtype in ("float32", "bfloat16"):
        jepa_speech.export_hf(run, tmp_path / dtype, dtype=dtype)
    whole, rounded = (read_folder(tmp_path / dtype)[1] for dtype in ("float32", "bfloat16"))
    fixed = {"frequencies", "frontend.hann", "frontend.mel"}
    assert fixed < whole.keys() == rounded.keys()
    for name, array in whole.items():
        rounds = array.ndim > 1 and name not in fixed
        np.testing.assert_array_equal(rounded[name], array.astype(jnp.bfloat16) if rounds else array)
        assert (rounded[name].dtype == jnp.bfloat16) == rounds
    card = (tmp_path / "bfloat16" / "README.md").read_text()
    assert "M parameters in bfloat16" in card and "are rounded to bfloat16" in card and "layers differed" not in card
    wave = np.random.default_rng(0).normal(size=16_000).astype(np.float32)
    before, after = (
        jepa_speech.load_pretrained(place).represent(wave, 16_000) for place in (run, tmp_path / "bfloat16")
    )
    for a, b in zip(before.layers, after.layers, strict=True):
        assert np.abs(a - b).max() > 0 and np.sqrt(np.mean((a - b) ** 2)) < 0.02 * np.sqrt(np.mean(a**2))


def test_the_card_of_a_rounded_model_that_takes_recorded_levels_says_both(tmp_path):
    config = small_config("wavlm")
    config["encoder"]["level"] = "own"
    jepa_speech.export_hf(small_run(tmp_path / "run", config), tmp_path / "hf", dtype="bfloat16")
    card = (tmp_path / "hf" / "README.md").read_text()
    assert "at their recorded level" in card and "are rounded to bfloat16" in card


def test_a_ctc_run_keeps_its_vocabulary(tmp_path):
    run = ctc_run(tmp_path / "run", ctc_config(small_config("hubert")))
    exported = jepa_speech.export_hf(run, tmp_path / "hf")
    assert exported["writes_texts"] and exported["class"] == "Wav2Vec2ForCTC"
    imported = jepa_speech.import_hf(tmp_path / "hf", tmp_path / "again")
    assert imported["classes"] == len(json.loads((tmp_path / "hf" / "vocab.json").read_text()))
