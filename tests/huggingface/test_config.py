"""Values of a config.json of transformers that cannot be read: each is named before anything is built."""

import json
import re

import jax
import numpy as np
import pytest
from support.public_checkpoints import TINY, toy_arrays, write_folder
from support.toys import CONFIGS as CONFIG_FILES

from jepa_speech.errors import UserError
from jepa_speech.huggingface import own_encoder
from jepa_speech.huggingface.config import checked_config
from jepa_speech.huggingface.families import FAMILIES, own_section
from jepa_speech.huggingface.imported import read_imported
from jepa_speech.huggingface.weights import read_folder
from jepa_speech.nn.build_encoder import build_encoder
from jepa_speech.nn.encoder import EncoderConfig
from jepa_speech.nn.masks import MaskConfig
from jepa_speech.nn.module import Pure
from jepa_speech.pretrained.load import load_pretrained
from jepa_speech.training.configfile import config_dict

OWN = {
    "model_type": "jepa_speech",
    "block_type": "conformer",
    "conv_channels": 8,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "kernel_size": 3,
}
CONFIGS = {
    "wav2vec2": TINY | {"model_type": "wav2vec2", "feat_extract_norm": "group", "conv_bias": False},
    "hubert": TINY,
    "wavlm": TINY | {"model_type": "wavlm", "num_buckets": 16, "max_bucket_distance": 20},
    "data2vec-audio": TINY | {"model_type": "data2vec-audio", "num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 3},
    "jepa_speech": OWN,
}
SIZES = {  # of a module that is built from them
    "wav2vec2": [
        "hidden_size",
        "num_hidden_layers",
        "intermediate_size",
        "num_conv_pos_embeddings",
        "num_attention_heads",
        "num_conv_pos_embedding_groups",
        "num_codevector_groups",
        "num_codevectors_per_group",
        "codevector_dim",
        "proj_codevector_dim",
    ],
    "hubert": ["hidden_size", "num_hidden_layers", "intermediate_size", "num_conv_pos_embeddings"],
    "wavlm": ["num_hidden_layers", "num_buckets", "max_bucket_distance", "num_attention_heads"],
    "data2vec-audio": ["num_hidden_layers", "num_conv_pos_embeddings", "conv_pos_kernel_size"],
    "jepa_speech": [
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "conv_channels",
        "kernel_size",
    ],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A sound folder of each model type."""
    place, found = tmp_path_factory.mktemp("hf"), {}
    for kind, config in CONFIGS.items():
        if kind == "jepa_speech":
            section = EncoderConfig(**own_section(checked_config(config, "config.json")))
            encoder = build_encoder(section, MaskConfig())
            _, arrays = own_encoder.to_torch(section, encoder.init(jax.random.key(0)))
        else:
            arrays = toy_arrays(config)
        found[kind] = write_folder(place / kind, config, arrays)
    read_imported(found["jepa_speech"])  # the others are read by tests/cli/test_import.py and tests/parity
    return found


def refused(folder, change, monkeypatch):
    """The one line by which a folder with this change of its config.json is refused; nothing is built before."""
    (folder / "config.json").write_text(json.dumps(CONFIGS[folder.name] | change))
    monkeypatch.setattr(Pure, "init", None)  # a module that is built fails with another error
    try:
        with pytest.raises(UserError) as error:
            read_imported(folder)
    finally:
        monkeypatch.undo()
        (folder / "config.json").write_text(json.dumps(CONFIGS[folder.name]))
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"{folder / 'config.json'}: ") and len(line) < len(str(folder)) + 250
    return line


@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind, keys in SIZES.items() for key in keys])
def test_a_size_that_cannot_be_is_named_before_anything_is_built(kind, key, folders, monkeypatch):
    for value in (10**6, 10**7, 2**40, 10**9, 10**30, 0, -32, 1.5, True, None, "16", [16], {}):
        assert f"{key} = " in refused(folders[kind], {key: value}, monkeypatch)
    if key in CONFIGS[kind] and key != "max_bucket_distance":  # the arrays show it, or another size is divided by it
        assert key in refused(folders[kind], {key: 3 * CONFIGS[kind][key]}, monkeypatch)


@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm", "data2vec-audio"])
@pytest.mark.parametrize(
    "conv_dim", [[], [8] * 6, [8] * 10**6, [10**9] * 7, [0] * 7, [-8] * 7, ["8"] * 7, [[8]] * 7, 8, "8888888", None]
)
def test_convolutions_that_cannot_be_are_named(kind, conv_dim, folders, monkeypatch):
    assert "conv_dim" in refused(folders[kind], {"conv_dim": conv_dim}, monkeypatch)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("hubert", {"hidden_dropout": -0.1}),
        ("hubert", {"attention_dropout": "0.1"}),
        ("wavlm", {"layerdrop": 2}),
        ("hubert", {"feat_proj_layer_norm": None}),
        ("hubert", {"conv_pos_batch_norm": "no"}),
        ("hubert", {"layer_norm_eps": 0.0}),
        ("hubert", {"conv_bias": 1}),
        ("wav2vec2", {"do_stable_layer_norm": "yes"}),
        ("wav2vec2", {"feat_extract_norm": "batch"}),
        ("wav2vec2", {"feat_extract_norm": ["layer"]}),
        ("wav2vec2", {"conv_kernel": 10}),
        ("wav2vec2", {"conv_stride": [5] * 10**6}),
        ("wavlm", {"hidden_act": {}}),
        ("data2vec-audio", {"conv_pos_kernel_size": 2}),
        ("wavlm", {"layer_norm_eps": "1e-5"}),
        ("wavlm", {"num_buckets": 18}),
        ("wavlm", {"max_bucket_distance": 4}),
        ("hubert", {"model_type": []}),
        ("hubert", {"model_type": {}}),
        ("hubert", {"model_type": 3}),
        ("jepa_speech", {"block_type": "lstm"}),
        ("jepa_speech", {"frontend": 3}),
        ("jepa_speech", {"masked_embedding": "no"}),
        ("jepa_speech", {"hidden_dropout": 1.5}),
    ],
)
def test_another_value_that_cannot_be_is_named(kind, change, folders, monkeypatch):
    assert next(iter(change)) in refused(folders[kind], change, monkeypatch)


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        ("wav2vec2", {"hidden_act": "relu"}, "hidden_act = 'relu'; only gelu or gelu_python can be read"),
        ("wavlm", {"feat_extract_activation": "gelu_new"}, "feat_extract_activation = 'gelu_new'; only gelu or"),
        (
            "hubert",
            {"conv_stride": [5, 2, 2, 2, 2, 2, 1]},
            r"conv_stride = \[.*: choose a model with one frame per",
        ),
        ("wavlm", {"conv_kernel": [10, 3, 3, 3, 3, 3, 3]}, r"conv_kernel = \["),
        ("hubert", {"conv_dim": [8, 8, 8, 8, 8, 8, 16]}, "conv_dim"),
        ("hubert", {"conv_dim": [8] * 8, "conv_stride": [5] + [2] * 7}, "conv_stride"),
        ("wav2vec2", {"add_adapter": True}, "add_adapter = True; only False or None can be read: set it to false to"),
        ("data2vec-audio", {"add_adapter": True}, "add_adapter = True"),
        ("hubert", {"adapter_attn_dim": -16}, "adapter_attn_dim = -16"),
        ("wav2vec2", {"quantization_config": {"load_in_8bit": True}}, "quantization_config = .*save the weights as f"),
        ("hubert", {"model_type": "whisper"}, "model_type = 'whisper': expected one of wav2vec2, hubert"),
        ("hubert", {"model_type": None}, "the field model_type is missing"),
    ],
)
def test_what_is_not_implemented_is_refused_by_the_key_that_says_so(kind, change, says, folders, monkeypatch):
    assert re.search(says, refused(folders[kind], change, monkeypatch))


@pytest.mark.parametrize("kind", [kind for kind in FAMILIES if kind != "jepa_speech"])
def test_fine_tuning_begins_from_a_config_of_which_most_keys_are_missing(kind, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, "hidden_size": 48, "num_attention_heads": 3}))
    encoder = config_dict(f"{CONFIG_FILES}/finetune_ctc.py:{tmp_path}").encoder
    assert (encoder.width, encoder.heads) == (48, 3)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    encoder = config_dict(f"{CONFIG_FILES}/finetune_ctc.py:{tmp_path}").encoder
    assert encoder.get("level") == (None if kind == "wav2vec2-bert" else "own")


def test_keys_that_change_nothing_are_not_looked_at():
    """Those that this model type or this wiring does not read, those of training, and those of other versions."""
    unread = {
        "add_adapter": True,
        "conv_pos_batch_norm": True,
        "adapter_attn_dim": 16,
        "mask_time_prob": [],
        "dtype": 3,
    }
    base = TINY | {"model_type": "unispeech-sat", "do_stable_layer_norm": False}
    found = checked_config(base | unread | {"hidden_act": "gelu_python", "a_key_of_tomorrow": {}}, "config.json")
    section = FAMILIES["unispeech-sat"].section
    assert section(found) == section(checked_config(base, "config.json"))


@pytest.mark.parametrize("text", ["[]", '"model_type"', "3", "null"])
def test_a_config_that_is_no_object_is_one_line(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    for read in (read_imported, load_pretrained):
        with pytest.raises(UserError, match=r"config\.json: a JSON object was expected"):
            read(tmp_path)


def test_weights_of_our_own_encoder_that_are_not_finite_are_named(folders):
    config, arrays = read_folder(folders["jepa_speech"])
    name = "projection.weight"
    with pytest.raises(UserError, match=rf"^model\.safetensors: {name} holds NaN or infinite values"):
        own_encoder.from_torch(config, arrays | {name: np.full_like(arrays[name], np.nan)})
