"""Arrays by name to parameters, and what is missing; tests/parity/test_huggingface.py compares the numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.public_checkpoints import TINY, toy_arrays

from jepa_speech.errors import UserError
from jepa_speech.huggingface.parameters import from_huggingface


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


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2"])
def test_positions_whose_weight_norm_was_removed_are_the_same(kind):
    """A plain weight; one tap is all zeros, which has no direction."""
    config, name = TINY | {"model_type": kind}, "encoder.pos_conv_embed.conv."
    arrays = toy_arrays(config)
    g, v = (arrays.pop(f"{name}parametrizations.weight.original{i}") for i in (0, 1))
    g[..., 2] = 0
    arrays[f"{name}weight"] = g * v / np.sqrt(np.square(v).sum((0, 1)))
    imported = from_huggingface(config, arrays)
    ours = imported.encoder["positions"]
    norms = np.sqrt(np.square(ours["v"]).sum((1, 2)))
    np.testing.assert_allclose(ours["v"] * (ours["g"] / norms)[:, None, None], arrays[f"{name}weight"].T, atol=1e-6)
    assert (imported.not_taken, imported.ignored) == ([], [])
    if kind == "hubert":  # with a batch norm, and without the config's key for it, the weight is no removed norm
        mixed = toy_arrays(config | {"conv_pos_batch_norm": True})
        with pytest.raises(UserError, match=r"the weights lack encoder\.pos_conv_embed\.conv\.param"):
            from_huggingface(config, mixed)
    del arrays[f"{name}weight"]
    with pytest.raises(UserError, match=r"the weights lack encoder\.pos_conv_embed\.conv\.param"):
        from_huggingface(config, arrays)


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


@pytest.mark.parametrize(("kind", "prefix"), [("wav2vec2", "wav2vec2."), ("hubert", ""), ("unispeech-sat", "")])
def test_a_parameter_that_inference_never_uses_is_drawn_if_it_is_missing(kind, prefix):
    """Whatever the config says of masking: published models fine-tuned with it lack the embedding."""
    for probability in (0.0, 0.05):
        config = TINY | {"model_type": kind, "mask_time_prob": probability}
        arrays = toy_arrays(config, prefix)
        whole = from_huggingface(config, arrays)
        del arrays[f"{prefix}masked_spec_embed"]
        imported = from_huggingface(config, arrays)
        assert imported.drawn == ["masked_spec_embed"] and imported.not_taken == [] and whole.drawn == []
        drawn = imported.encoder.pop("mask_embedding")
        assert drawn.shape == whole.encoder.pop("mask_embedding").shape and np.isfinite(drawn).all()
        assert equal(imported.encoder, whole.encoder)


@pytest.mark.parametrize("older", ["mask_time_emb_vector", "mask_emb"])
def test_the_embedding_by_its_older_names_is_taken(older, plain, arrays):
    renamed = {older if name == "masked_spec_embed" else name: x for name, x in arrays.items()}
    imported = from_huggingface(TINY, renamed)
    assert equal(imported.encoder, plain.encoder)
    assert (imported.drawn, imported.not_taken) == ([], [])


def test_arrays_that_inference_never_uses_change_nothing(plain, arrays):
    unused = {
        "lm_head.bias": np.zeros(4, np.float32),
        "encoder.position_ids": np.arange(5)[None],
        "encoder.layers.0.attention.inv_freq": np.full(3, np.nan, np.float32),
        "encoder.layers.1.adapter_layer.norm.weight": np.zeros((), np.int64),
        "quantizer.codevectors": np.zeros(7, np.int8),  # HuBERT has no place for it
    }
    for prefix in ("", "hubert."):
        named = {prefix + name: x for name, x in (arrays | unused).items()}
        imported = from_huggingface(TINY, named)
        assert equal(imported.encoder, plain.encoder) and imported.extra == {}
        assert imported.not_taken == sorted(unused)


USED = {  # an array that each type computes with, and no size is read from
    "wav2vec2": "encoder.layer_norm.bias",
    "hubert": "feature_projection.layer_norm.weight",
    "wavlm": "encoder.layers.1.attention.gru_rel_pos_const",
    "data2vec-audio": "encoder.pos_conv_embed.layers.1.conv.bias",
    "unispeech-sat": "feature_extractor.conv_layers.6.layer_norm.bias",
}
BATCH_NORM = {"conv_pos_batch_norm": True, "feat_proj_layer_norm": False}


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        *((kind, name, {}) for kind, name in USED.items()),
        *((kind, "feature_projection.projection.weight", {}) for kind in USED),
        ("hubert", "encoder.pos_conv_embed.batch_norm.running_mean", BATCH_NORM),
        ("hubert", "encoder.pos_conv_embed.batch_norm.weight", BATCH_NORM),
    ],
)
def test_a_missing_array_that_inference_uses_is_named(kind, name, change):
    config = TINY | {"model_type": kind, "num_conv_pos_embeddings": 2} | change
    arrays = toy_arrays(config, "a.b.")
    del arrays[f"a.b.{name}"]
    with pytest.raises(UserError, match=rf"^x/config\.json: the weights lack {name}, which a {kind} encoder") as error:
        from_huggingface(config, arrays, "x/config.json")
    assert str(error.value).endswith("damaged or of another model; download both again")


@pytest.mark.parametrize("wrapper", ["model.", "module.", "encoder.", "_orig_mod.module.", "state_dict.ssl.encoder."])
@pytest.mark.parametrize("own", ["", "wav2vec2."])
def test_names_behind_a_wrapper_are_found(own, wrapper):
    config = TINY | {"model_type": "wav2vec2"}
    head = {"project_q.bias": np.ones(256, np.float32)}
    plain = from_huggingface(config, toy_arrays(config) | head)
    wrapped = {wrapper + own + name: x for name, x in toy_arrays(config).items()}
    wrapped |= {wrapper + name: x for name, x in head.items()} | {"other.weight": np.zeros(3)}
    imported = from_huggingface(config, wrapped)
    assert equal(imported.encoder, plain.encoder) and equal(imported.extra, plain.extra)
    assert imported.extra and imported.not_taken == ["other.weight"]


def test_of_two_encoders_the_types_own_is_taken_or_both_are_named(plain, arrays):
    other = {f"teacher.{name}": x + 1 for name, x in arrays.items()}
    imported = from_huggingface(TINY, other | {f"hubert.{name}": x for name, x in arrays.items()})
    assert equal(imported.encoder, plain.encoder)
    with pytest.raises(UserError, match=r"the weights hold 2 encoders, student\.\*, teacher\.\*: save one of them"):
        from_huggingface(TINY, other | {f"student.{name}": x for name, x in arrays.items()})


def test_a_batch_norm_becomes_a_scale_and_a_shift():
    config = TINY | BATCH_NORM
    arrays = toy_arrays(config, "hubert.")
    imported = from_huggingface(config, arrays)
    place = "hubert.encoder.pos_conv_embed.batch_norm."
    weight, bias, mean, variance = (arrays[place + name] for name in ("weight", "bias", "running_mean", "running_var"))
    positions = imported.encoder["positions"]
    x = np.linspace(-2, 2, 16, dtype=np.float32)
    wanted = (x - mean) / np.sqrt(variance + 1e-5) * weight + bias
    np.testing.assert_allclose(x * positions["scale"] + positions["shift"], wanted, atol=1e-6)
    assert imported.not_taken == ["encoder.pos_conv_embed.batch_norm.num_batches_tracked"]
    with pytest.raises(UserError, match=r"batch_norm\.running_var in the weights holds -1, less than 0"):
        from_huggingface(config, arrays | {f"{place}running_var": np.full(16, -1, np.float32)})


@pytest.mark.parametrize("vectors", [(1, 7, 5), (6, 5), (2, 3, 5), (5,)])
def test_code_vectors_that_are_in_no_groups(vectors, arrays):
    config = TINY | {"model_type": "wav2vec2"}
    heads = {"quantizer.codevectors": np.zeros(vectors, np.float32)}
    with pytest.raises(UserError, match=r"num_codevector_groups = 2, and quantizer\.codevectors has shape"):
        from_huggingface(config, toy_arrays(config, "wav2vec2.") | heads)


def test_weights_that_are_whole_numbers_are_refused(arrays):
    """Quantised weights mean nothing without their scales."""
    name = "encoder.layers.1.feed_forward.intermediate_dense.weight"
    with pytest.raises(UserError, match=rf"^config\.json: {name} in the weights has type int32"):
        from_huggingface(TINY, arrays | {name: arrays[name].astype(np.int32)})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, jnp.bfloat16])
def test_weights_that_are_not_finite_are_named(value, dtype, arrays):
    name = "encoder.layers.1.attention.v_proj.bias"
    broken = arrays | {name: np.array([value, *arrays[name][1:]]).astype(dtype)}
    with pytest.raises(UserError, match=rf"^config\.json: {name} in the weights holds NaN or infinite values"):
        from_huggingface(TINY, broken)
