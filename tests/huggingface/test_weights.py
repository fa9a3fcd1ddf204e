"""Folders of weights: one file, several, and what is wrong with them."""

import json
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from support.public_checkpoints import TINY, toy_arrays, write_folder, write_shards

from jepa_speech.errors import UserError
from jepa_speech.huggingface.imported import imported_model, read_imported
from jepa_speech.huggingface.parameters import from_huggingface
from jepa_speech.huggingface.weights import read_folder


@pytest.fixture(scope="module")
def arrays():
    return toy_arrays(TINY)


@pytest.fixture
def shards(tmp_path, arrays):
    """A folder of three files of float32, float16 and bfloat16."""
    parts = [{}, {}, {}]
    for i, (name, x) in enumerate(arrays.items()):
        parts[i % 3][name] = x.astype([np.float32, np.float16, jnp.bfloat16][i % 3])
    return write_shards(tmp_path / "shards", TINY, parts)


def test_several_files_of_several_types_are_one_model(shards, arrays):
    encoder = read_imported(shards)[1].encoder
    whole = from_huggingface(TINY, arrays).encoder
    for ours, theirs in zip(jax.tree.leaves(encoder), jax.tree.leaves(whole), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, rtol=1e-2)
    save_file({"a": np.zeros(1, np.float32)}, shards / "more.safetensors")  # what the index does not name
    assert read_folder(shards)[1].keys() == arrays.keys()


SECOND = "model-00002-of-00003.safetensors"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda names: dict.fromkeys(names, SECOND), f"'.*' is not in {SECOND}: the download is not complete"),
        (lambda names: names | {"x": SECOND}, f"'x' is not in {SECOND}: the download is not complete"),
        (lambda names: names | {"x": "model-9.safetensors"}, r"model-9\.safetensors is missing: the download is not"),
        (lambda names: names | {"x": "../hf/model.safetensors"}, r"'x' is in '\.\./hf/model\.safetensors', not a file"),
        (lambda names: names | {"x": "/etc/hosts"}, "'x' is in '/etc/hosts', not a file of this folder"),
        (lambda names: names | {"x": "..\\a"}, "not a file of this folder"),
        (lambda names: names | {"x": ".."}, "not a file of this folder"),
        (lambda names: names | {"x": ""}, "not a file of this folder"),
        (lambda names: names | {"x": "config.json"}, "config.json: not a whole safetensors file"),
        (lambda names: names | {"x": 3}, "weight_map: 'x' = 3: expected str"),
        (lambda names: {}, "weight_map is empty"),
        (lambda names: list(names), "weight_map = .*: expected dict"),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_one_line(shards, change, says):
    path = shards / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": change(json.loads(path.read_text())["weight_map"])}))
    with pytest.raises(UserError, match=says) as error:
        read_folder(shards)
    assert str(error.value).startswith(str(shards)) and "\n" not in str(error.value)


def test_files_that_do_not_fit_their_index_are_one_line(shards, arrays):
    path = shards / SECOND
    save_file({name: arrays[name] for name in list(arrays)[:2]}, path)
    with pytest.raises(UserError, match=f"both model-00001-of-00003.safetensors and {SECOND} hold '"):
        read_folder(shards)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"^{path}: not a whole safetensors file"):
        read_folder(shards)
    path.unlink()
    with pytest.raises(UserError, match=f"{SECOND} is missing: the download is not complete"):
        read_folder(shards)


def test_a_folder_is_read(tmp_path, arrays):
    config, found = read_folder(write_folder(tmp_path / "hf", TINY, arrays))
    assert config.items() >= TINY.items()
    assert config["layerdrop"] == 0.1  # what transformers takes for a key that is left out
    assert found.keys() == arrays.keys()


@pytest.mark.parametrize(
    ("config", "preprocessor", "says"),
    [
        (TINY, {"sampling_rate": 8_000}, r"processor_config.json(: feature_extractor)?: 'sampling_rate' is 8000"),
        (TINY, {"do_normalize": False}, ""),
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
    # transformers 5 writes it into the processor's file, and reads that first.
    (folder / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 44_100}))
    (folder / "processor_config.json").write_text(json.dumps({"feature_extractor": preprocessor}))
    with pytest.raises(UserError, match=says) if says else nullcontext():
        read_folder(folder)


def test_adapters_of_a_language_replace_those_in_the_weights(tmp_path):
    """As of MMS: a model for speech recognition, and a file for each language with its adapters and its head."""
    config = TINY | {"model_type": "wav2vec2", "adapter_attn_dim": 5}
    base = toy_arrays(config, "wav2vec2.") | {"lm_head.weight": np.zeros((3, 16), np.float32)}
    spa = {name: x + 1 for name, x in base.items() if ".adapter_layer." in name}
    assert len(spa) == 2 * 6
    folder = write_folder(tmp_path / "hf", config, base)
    with pytest.raises(UserError, match=r"no adapter\.spa\.safetensors in it; there are none"):
        read_folder(folder, "spa")
    save_file(spa | {"lm_head.weight": np.ones((7, 16), np.float32)}, folder / "adapter.spa.safetensors")
    save_file(dict(list(spa.items())[1:]), folder / "adapter.cym.safetensors")
    for adapter, more in (("", 0), ("spa", 1)):
        _, found = read_folder(folder, adapter)
        encoder = from_huggingface(config, found).encoder
        for name, side in (("down", "linear_1"), ("up", "linear_2")):
            wanted = base[f"wav2vec2.encoder.layers.1.adapter_layer.{side}.weight"] + more
            np.testing.assert_array_equal(encoder["blocks"][1]["adapter"][name]["kernel"], wanted.T)
    letters = {"spa": ["<pad>", "|", *"ñaeio"], "eng": ["<pad>", "|", "a"]}
    numbered = {language: {token: i for i, token in enumerate(tokens)} for language, tokens in letters.items()}
    (folder / "vocab.json").write_text(json.dumps(numbered))
    (folder / "tokenizer_config.json").write_text(json.dumps({"target_lang": "eng", "unk_token": "<pad>"}))
    for adapter, language in (("", "eng"), ("spa", "spa")):
        model = imported_model(folder, adapter)
        assert model.config.vocabulary.tokens == tuple(letters[language])
        assert (model.params["head"]["kernel"] == (adapter != "")).all()
    with pytest.raises(UserError, match=r"cym\.safetensors: 11 arrays of adapters, where .* have 12, of which 11"):
        read_folder(folder, "cym")
    with pytest.raises(UserError, match=r"no adapter\.\.\./spa\.safetensors in it; there are cym, spa: choose"):
        read_folder(folder, "../spa")


def test_folders_that_cannot_be_read(tmp_path, arrays):
    with pytest.raises(UserError, match=r"no config\.json"):
        read_folder(tmp_path)
    folder = write_folder(tmp_path / "hf", TINY, arrays)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"neither model\.safetensors nor model\.safetensors\.index\.json in it"):
        read_folder(folder)
    (folder / "pytorch_model-00001-of-00002.bin").write_bytes(b"never opened")
    with pytest.raises(UserError, match=r"it \(there: pytorch_model-00001-of-00002\.bin\); load .* save_pretrained$"):
        read_folder(folder)
    (folder / "model.fp16.safetensors").write_bytes(b"never opened")
    with pytest.raises(UserError, match=r"\(there: model\.fp16\.safetensors, .*: rename the weights to model\.s"):
        read_folder(folder)
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    with pytest.raises(UserError, match=r"a pickle.*save_file.*weights_only=True") as error:
        read_folder(folder)
    assert "\n" not in str(error.value)
