"""Names, shapes and what is refused; that the numbers are right is told by tests/parity/test_huggingface.py."""

import json
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import TINY, toy_arrays, write_folder

from jepa_speech.errors import UserError
from jepa_speech.export import own_encoder
from jepa_speech.export.huggingface import from_huggingface, read_folder
from jepa_speech.export.imported import read_imported
from jepa_speech.export.pretrained import load_pretrained
from jepa_speech.export.their_config import checked_config
from jepa_speech.nn.masks import MaskConfig
from jepa_speech.nn.module import Pure
from jepa_speech.nn.system import system


def equal(a, b) -> bool:
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))


@pytest.fixture(scope="module")
def arrays():
    return toy_arrays(TINY)


@pytest.fixture(scope="module")
def plain(arrays):
    return from_huggingface(TINY, arrays)


def test_sizes_come_from_the_config(plain):
    wanted = {"name": "wav2vec2", "norm": "layer", "conv_bias": True, "width": 16, "pre_norm": True, "layerdrop": 0.1}
    assert plain.section.items() >= wanted.items()
    assert plain.extra == {}
    assert plain.not_taken == []


def test_kernels_are_turned_and_weight_norm_stays_apart(plain, arrays):
    """Theirs are (out, in, kernel), ours (kernel, in, out); g and v are parameters in both."""
    weight = arrays["feature_extractor.conv_layers.1.conv.weight"]
    np.testing.assert_array_equal(
        plain.encoder["frontend"]["convolutions"][1]["kernel"], np.transpose(weight, (2, 1, 0))
    )
    np.testing.assert_array_equal(
        plain.encoder["positions"]["g"], arrays["encoder.pos_conv_embed.conv.parametrizations.weight.original0"][0, 0]
    )
    up = arrays["encoder.layers.1.feed_forward.intermediate_dense.weight"]
    np.testing.assert_array_equal(plain.encoder["blocks"][1]["up"]["kernel"], up.T)


def test_a_model_with_heads_gives_the_same_encoder_and_names_them(plain, arrays):
    headed = {f"hubert.{name}": x for name, x in arrays.items()} | {"lm_head.weight": np.zeros((4, 16), np.float32)}
    imported = from_huggingface(TINY, headed)
    assert equal(imported.encoder, plain.encoder)
    assert imported.not_taken == ["lm_head.weight"]


def test_the_older_spelling_of_weight_norm_is_the_same(plain, arrays):
    older = {
        name.replace(".parametrizations.weight.original0", ".weight_g").replace(
            ".parametrizations.weight.original1", ".weight_v"
        ): x
        for name, x in arrays.items()
    }
    assert older.keys() != arrays.keys()
    assert equal(from_huggingface(TINY, older).encoder, plain.encoder)


def test_heads_of_wav2vec2_come_along():
    """Codes of a group stand together: theirs (1, G V, D/G), ours (G, V, D/G)."""
    config = TINY | {"model_type": "wav2vec2", "num_codevector_groups": 2}
    rng = np.random.default_rng(1)
    heads = {
        "quantizer.weight_proj.weight": rng.normal(size=(6, 8)),
        "quantizer.weight_proj.bias": rng.normal(size=6),
        "quantizer.codevectors": rng.normal(size=(1, 6, 5)),
        "project_q.weight": rng.normal(size=(12, 10)),
        "project_q.bias": rng.normal(size=12),
        "project_hid.weight": rng.normal(size=(12, 16)),
        "project_hid.bias": rng.normal(size=12),
    }
    heads = {name: x.astype(np.float32) for name, x in heads.items()}
    imported = from_huggingface(config, toy_arrays(config, "wav2vec2.") | heads)
    assert imported.not_taken == []
    assert jax.tree.map(np.shape, imported.extra) == {
        "quantizer": {"logits": {"kernel": (8, 6), "bias": (6,)}, "vectors": (2, 3, 5)},
        "project_q": {"kernel": (10, 12), "bias": (12,)},
        "final_proj": {"kernel": (16, 12), "bias": (12,)},
    }
    np.testing.assert_array_equal(imported.extra["quantizer"]["vectors"][1, 0], heads["quantizer.codevectors"][0, 3])


def test_a_model_without_masking_gets_a_fresh_embedding(arrays):
    without = {name: x for name, x in arrays.items() if name != "masked_spec_embed"}
    imported = from_huggingface(TINY | {"mask_time_prob": 0.0}, without)
    assert imported.encoder["mask_embedding"].shape == (16,)
    assert imported.not_taken == ["masked_spec_embed"]
    with pytest.raises(UserError, match="lacks masked_spec_embed"):
        from_huggingface(TINY, without)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "whisper"}, "model_type = 'whisper': expected one of wav2vec2, hubert"),
        ({"model_type": None}, "the field model_type is missing"),
        ({"hidden_act": "relu"}, "hidden_act = 'relu'; only gelu"),
        ({"conv_stride": [5, 2, 2, 2, 2, 2, 1]}, "conv_stride"),
        ({"conv_dim": [8, 8, 8, 8, 8, 8, 16]}, "conv_dim"),
        ({"layer_norm_eps": 1e-12}, "layer_norm_eps"),
        ({"model_type": "wavlm"}, "not a wavlm encoder: it lacks encoder.layers.0.attention.rel_attn_embed"),
    ],
)
def test_what_does_not_fit_is_named(change, says, arrays):
    with pytest.raises(UserError, match=says):
        from_huggingface(TINY | change, arrays)


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
            section = own_encoder.encoder_section(checked_config(config, "config.json"))
            encoder = system(section, MaskConfig()).encoder
            _, arrays = own_encoder.to_torch({"encoder": section}, encoder.init(jax.random.key(0)))
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
        ("hubert", {"mask_time_prob": []}),
        ("hubert", {"conv_bias": 1}),
        ("wav2vec2", {"do_stable_layer_norm": "yes"}),
        ("wav2vec2", {"feat_extract_norm": "batch"}),
        ("wav2vec2", {"feat_extract_norm": ["layer"]}),
        ("wav2vec2", {"conv_kernel": 10}),
        ("wav2vec2", {"conv_stride": [5] * 10**6}),
        ("wavlm", {"hidden_act": {}}),
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


@pytest.mark.parametrize("text", ["[]", '"model_type"', "3", "null"])
def test_a_config_that_is_no_object_is_one_line(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    for read in (read_imported, load_pretrained):
        with pytest.raises(UserError, match=r"config\.json: a JSON object was expected"):
            read(tmp_path)


@pytest.mark.parametrize("vectors", [(1, 7, 5), (6, 5), (2, 3, 5), (5,)])
def test_code_vectors_that_are_in_no_groups(vectors, arrays):
    config = TINY | {"model_type": "wav2vec2"}
    heads = {"quantizer.codevectors": np.zeros(vectors, np.float32)}
    with pytest.raises(UserError, match=r"num_codevector_groups = 2, and quantizer\.codevectors has shape"):
        from_huggingface(config, toy_arrays(config, "wav2vec2.") | heads)


def test_weights_that_are_whole_numbers_are_refused(arrays):
    """Quantised weights mean nothing without their scales."""
    name = "encoder.layers.1.feed_forward.intermediate_dense.weight"
    with pytest.raises(UserError, match=f"{name} has type int32"):
        from_huggingface(TINY, arrays | {name: arrays[name].astype(np.int32)})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, jnp.bfloat16])
def test_weights_that_are_not_finite_are_named(value, dtype, arrays):
    name = "encoder.layers.1.attention.v_proj.bias"
    broken = arrays | {name: np.array([value, *arrays[name][1:]]).astype(dtype)}
    with pytest.raises(UserError, match=rf"^model\.safetensors: {name} holds NaN or infinite values"):
        from_huggingface(TINY, broken)


def test_weights_of_our_own_encoder_that_are_not_finite_are_named(folders):
    config, arrays = read_folder(folders["jepa_speech"])
    name = "projection.weight"
    with pytest.raises(UserError, match=rf"^model\.safetensors: {name} holds NaN or infinite values"):
        own_encoder.from_torch(config, arrays | {name: np.full_like(arrays[name], np.nan)})


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
    with pytest.raises(UserError, match=r"no model\.safetensors"):
        read_folder(folder)
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    with pytest.raises(UserError, match=r"a pickle.*save_file.*weights_only=True") as error:
        read_folder(folder)
    assert "\n" not in str(error.value)
