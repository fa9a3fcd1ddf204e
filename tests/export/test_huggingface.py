"""Names, shapes and what is refused; that the numbers are right is told by tests/parity/test_huggingface.py."""

import json
from contextlib import nullcontext

import jax
import numpy as np
import pytest
from checkpoints import TINY, toy_arrays, write_folder

from jepa_speech.errors import UserError
from jepa_speech.export.huggingface import from_huggingface, read_folder


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
        ({"model_type": "whisper"}, "model_type = 'whisper'; what can be read is wav2vec2, hubert"),
        ({"model_type": None}, "model_type = None"),
        ({"hidden_act": "relu"}, "hidden_act = relu; only gelu"),
        ({"conv_stride": [5, 2, 2, 2, 2, 2, 1]}, "conv_stride"),
        ({"conv_dim": [8, 8, 8, 8, 8, 8, 16]}, "conv_dim"),
        ({"layer_norm_eps": 1e-12}, "layer_norm_eps"),
        ({"hidden_size": 17}, r"encoder\.width = 17"),
        ({"hidden_size": 32}, r"has shape \(.*16.*\); its config.json asks for \(.*32"),
        ({"model_type": "wavlm"}, "not a wavlm encoder: it lacks encoder.layers.0.attention.gru_rel_pos"),
        ({"num_hidden_layers": 1}, "it has, unexpectedly, encoder.layers.1.attention.k_proj.bias, .*, ..."),
        ({"num_hidden_layers": 3}, "it lacks encoder.layers.2"),
    ],
)
def test_what_does_not_fit_is_named(change, says, arrays):
    with pytest.raises(UserError, match=says):
        from_huggingface(TINY | change, arrays)


def test_a_folder_is_read(tmp_path, arrays):
    config, found = read_folder(write_folder(tmp_path / "hf", TINY, arrays))
    assert config == TINY
    assert found.keys() == arrays.keys()


@pytest.mark.parametrize(
    ("config", "preprocessor", "says"),
    [
        (TINY, {"sampling_rate": 8_000}, "preprocessor_config.json: 'sampling_rate' is 8000"),
        (TINY, {"do_normalize": False}, "'do_normalize' is false"),
        (TINY | {"feat_extract_norm": "group", "do_stable_layer_norm": False}, {"do_normalize": False}, ""),
        (TINY, {"do_normalize": True, "sampling_rate": 16_000}, ""),
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
