"""Folders of weights: one file, several, and what is wrong with them."""

import json
from contextlib import nullcontext

import pytest
from checkpoints import TINY, toy_arrays, write_folder

from jepa_speech.errors import UserError
from jepa_speech.export.their_weights import read_folder


@pytest.fixture(scope="module")
def arrays():
    return toy_arrays(TINY)


def test_a_folder_is_read(tmp_path, arrays):
    config, found = read_folder(write_folder(tmp_path / "hf", TINY, arrays))
    assert config.items() >= TINY.items()
    assert config["layerdrop"] == 0.1  # what transformers takes for a key that is left out
    assert found.keys() == arrays.keys()


@pytest.mark.parametrize(
    ("config", "preprocessor", "says"),
    [
        (TINY, {"sampling_rate": 8_000}, "preprocessor_config.json: 'sampling_rate' is 8000"),
        (TINY, {"do_normalize": False}, "'do_normalize' is false"),
        (TINY | {"feat_extract_norm": "group", "do_stable_layer_norm": False}, {"do_normalize": False}, ""),
        (TINY, {"do_normalize": True, "sampling_rate": 16_000}, ""),
        (TINY, {"sampling_rate": "16000"}, "sampling_rate = '16000': expected int or float"),
        (TINY, {"do_normalize": "no"}, "do_normalize = 'no': expected bool"),
        (TINY, [16_000], "a JSON object was expected"),
    ],
)
def test_a_model_of_other_waves_is_refused(config, preprocessor, says, tmp_path, arrays):
    folder = write_folder(tmp_path / "hf", config, arrays)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    with pytest.raises(UserError, match=says) if says else nullcontext():
        read_folder(folder)


def test_folders_that_cannot_be_read(tmp_path, arrays):
    with pytest.raises(UserError, match=r"no config\.json"):
        read_folder(tmp_path)
    folder = write_folder(tmp_path / "hf", TINY, arrays)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"neither model\.safetensors nor model\.safetensors\.index\.json in it"):
        read_folder(folder)
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    with pytest.raises(UserError, match=r"a pickle.*save_file.*weights_only=True") as error:
        read_folder(folder)
    assert "\n" not in str(error.value)
