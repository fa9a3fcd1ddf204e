"""Public checkpoints of wav2vec 2.0, HuBERT, WavLM and data2vec-audio as parameters of `nn/wav2vec2.py`.

Read are folders as transformers writes them: config.json and model.safetensors. Nothing in them is run. The tables
of names and keys below are read from right to left by `export/hf_folder.py`, which writes such folders.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech import checked
from jepa_speech.config import from_section
from jepa_speech.errors import UserError
from jepa_speech.export.safetensors import read_safetensors
from jepa_speech.export.their_config import KEYS, OWN, WAVLM_KEYS, check_sizes, checked_config
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.files import read_json
from jepa_speech.nn.module import Params, Pure
from jepa_speech.nn.wav2vec2 import Wav2Vec2Config, Wav2Vec2Encoder

# Model types, and what stands before the encoder's names where a model has heads beside it.
PREFIXES = {
    "wav2vec2": "wav2vec2.",
    "hubert": "hubert.",
    "wavlm": "wavlm.",
    "data2vec-audio": "data2vec_audio.",
}

# Our parameter paths become theirs by these substitutions, applied in order.
NAMES = (
    (r"^frontend\.convolutions\.(\d+)\.", r"feature_extractor.conv_layers.\1.conv."),
    (r"^frontend\.norms\.(\d+)\.", r"feature_extractor.conv_layers.\1.layer_norm."),
    (r"^frontend\.final_norm\.", "feature_projection.layer_norm."),
    (r"^projection\.", "feature_projection.projection."),
    (r"^mask_embedding$", "masked_spec_embed"),
    (r"^positions\.kernels\.(\d+)$", r"encoder.pos_conv_embed.layers.\1.conv.weight"),
    (r"^positions\.biases\.(\d+)$", r"encoder.pos_conv_embed.layers.\1.conv.bias"),
    (r"^positions\.g$", "encoder.pos_conv_embed.conv.parametrizations.weight.original0"),
    (r"^positions\.v$", "encoder.pos_conv_embed.conv.parametrizations.weight.original1"),
    (r"^positions\.", "encoder.pos_conv_embed.conv."),
    (r"^relative_bias\.table$", "encoder.layers.0.attention.rel_attn_embed.weight"),
    (r"^norm\.", "encoder.layer_norm."),
    (r"^blocks\.", "encoder.layers."),
    (r"\.attention_norm\.", ".layer_norm."),
    (r"\.ff_norm\.", ".final_layer_norm."),
    (r"\.up\.", ".feed_forward.intermediate_dense."),
    (r"\.down\.", ".feed_forward.output_dense."),
    (r"\.query\.", ".q_proj."),
    (r"\.key\.", ".k_proj."),
    (r"\.value\.", ".v_proj."),
    (r"\.out\.", ".out_proj."),
    (r"\.gate\.linear\.", ".gru_rel_pos_linear."),
    (r"\.gate\.constant$", ".gru_rel_pos_const"),
    (r"\.(kernel|scale)$", ".weight"),
)
# The older spelling of weight normalisation.
OLDER = ((".weight_g", ".parametrizations.weight.original0"), (".weight_v", ".parametrizations.weight.original1"))

# Arrays that have axes of length 1 besides, there: their shape from ours.
AXES = {"parametrizations.weight.original0": (1, 1, -1), "gru_rel_pos_const": (1, -1, 1, 1)}

# Heads of Wav2Vec2ForPreTraining that the objective `wav2vec2` has too, and their place there.
HEADS = {
    "quantizer.weight_proj.weight": ("quantizer", "logits", "kernel"),
    "quantizer.weight_proj.bias": ("quantizer", "logits", "bias"),
    "quantizer.codevectors": ("quantizer", "vectors"),
    "project_q.weight": ("project_q", "kernel"),
    "project_q.bias": ("project_q", "bias"),
    "project_hid.weight": ("final_proj", "kernel"),
    "project_hid.bias": ("final_proj", "bias"),
}


class Imported(NamedTuple):
    """section: config section `encoder`. encoder: its parameters, float32. extra: the parameters of heads, as a
    tree. not_taken: names of heads that have no place here, and of parameters that the checkpoint lacks.
    """

    section: dict[str, Any]
    encoder: Params
    extra: Params
    not_taken: list[str]


def read_folder(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(checked config, arrays by name) of a folder as transformers' save_pretrained writes it; raises UserError."""
    path = Path(path)
    if not (path / "config.json").is_file():
        raise UserError(f"{path}: no config.json in it; pass a folder that transformers' save_pretrained wrote")
    config, weights = (
        checked_config(read_json(path / "config.json"), f"{path / 'config.json'}"),
        path / "model.safetensors",
    )
    check_preprocessor(path, config)
    if weights.is_file():
        return config, read_safetensors(weights)
    old = path / "pytorch_model.bin"
    if old.is_file():
        raise UserError(
            f'{old}: a pickle, which is not read here; convert it where torch is: python -c "import torch; '
            f"from safetensors.torch import save_file; save_file({{name: x.clone().contiguous() for name, x in "
            f"torch.load('{old}', map_location='cpu', weights_only=True).items()}}, '{weights}')\""
        )
    raise UserError(f"{path}: no model.safetensors in it (a checkpoint of several files must be joined first)")


def check_preprocessor(folder: Path, config: Mapping[str, Any]) -> None:
    """Raises UserError for a model of other waves than ours, which have 16 kHz, mean 0 and deviation 1."""
    path = folder / "preprocessor_config.json"
    theirs = read_json(path) if path.is_file() else {}
    if (rate := checked.field(theirs, "sampling_rate", (int, float), str(path), default=SAMPLE_RATE)) != SAMPLE_RATE:
        raise UserError(
            f"{path}: 'sampling_rate' is {rate}; recordings are heard at {SAMPLE_RATE} Hz: choose such a model"
        )
    normalised = checked.field(theirs, "do_normalize", bool, str(path), default=True)
    # A group norm over time removes level and offset after the first convolution, so there normalising changes nothing;
    # our own model normalises waves itself.
    if not normalised and config["model_type"] != OWN and encoder_norm(config) == "layer":
        raise UserError(
            f"{path}: 'do_normalize' is false, and nothing in this model's front-end takes the level out of a wave; "
            "here waves are heard at deviation 1: choose another model"
        )


def from_huggingface(
    config: Mapping[str, Any], arrays: Mapping[str, np.ndarray], where: str = "config.json"
) -> Imported:
    """An encoder, and the heads it was trained with, from a config and its arrays by name.

    where: names the config's file. Raises UserError for a model that is none of these four or differs from them in an
    unsupported way, and for missing, misshapen or unexpected arrays.
    """
    config = checked_config(config, where)
    kind = config["model_type"]
    section = encoder_section(config)
    ours, heads = split(arrays, PREFIXES[kind])
    check_sizes(config, ours, where)
    shapes = encoder_shapes(section)
    wanted = {their_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)}
    # A model fine-tuned without masking has no embedding; it is drawn anew.
    optional = {"masked_spec_embed"} if not config["mask_time_prob"] else set()
    for names, what in ((wanted - ours.keys() - optional, "lacks"), (ours.keys() - wanted, "has, unexpectedly,")):
        if names:
            first = ", ".join(sorted(names)[:3])
            raise UserError(f"not a {kind} encoder: it {what} {first}" + (", ..." if len(names) > 3 else ""))

    def fill(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:
        name = their_name(path)
        if name in ours:
            return fitted(name, ours[name], leaf.shape)
        return jax.random.uniform(jax.random.key(0), leaf.shape)

    encoder = jax.tree_util.tree_map_with_path(fill, shapes)
    extra: Params = {}
    for name, (*path, last) in HEADS.items():
        if name in heads:
            place = extra
            for key in path:
                place = place.setdefault(key, {})
            place[last] = fitted(name, heads[name])
    if "quantizer.codevectors" in heads and kind == "wav2vec2":
        extra["quantizer"]["vectors"] = by_group(extra["quantizer"]["vectors"], config, where)
    return Imported(section, encoder, extra, sorted((heads.keys() - HEADS.keys()) | (wanted - ours.keys())))


def split(arrays: Mapping[str, np.ndarray], prefix: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The encoder's arrays without `prefix`, and the others; all are the encoder's where no name has the prefix."""
    if not any(name.startswith(prefix) for name in arrays):
        prefix = ""
    ours = {name.removeprefix(prefix): x for name, x in arrays.items() if name.startswith(prefix)}
    for name in list(ours):
        for old, new in OLDER:
            if name.endswith(old):
                ours[name.removesuffix(old) + new] = ours.pop(name)
    return ours, {name: x for name, x in arrays.items() if not name.startswith(prefix)}


def by_group(vectors: jax.Array, config: Mapping[str, Any], where: str) -> jax.Array:
    """Returns code vectors (1, G V, D/G) as (G, V, D/G)."""
    groups = config["num_codevector_groups"]
    if vectors.ndim != 3 or vectors.shape[0] != 1 or vectors.shape[1] % groups:
        raise UserError(
            f"{where}: num_codevector_groups = {groups}, and quantizer.codevectors has shape {vectors.shape}: "
            "expected (1, groups * codes, width)"
        )
    return vectors.reshape(groups, -1, vectors.shape[-1])


def encoder_section(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns config section `encoder` of a checked config."""
    kind, norm = config["model_type"], encoder_norm(config)
    section = {
        "name": "wav2vec2",
        "norm": norm,
        "channels": config["conv_dim"][0],
        "pre_norm": kind != "data2vec-audio" and config["do_stable_layer_norm"],
        "gradient_scale": 0.1 if norm == "group" else 1.0,  # as they were trained; their configs do not say
        **taken(KEYS, config),
    }
    if kind == "data2vec-audio":
        depth = config["num_conv_pos_embeddings"]
        kernel = depth * config["conv_pos_kernel_size"]
        section |= {"positions": "stacked", "position_kernel": kernel, "position_depth": depth}
    else:
        section["position_kernel"] = config["num_conv_pos_embeddings"]
    if kind == "wavlm":
        section |= {"relative_bias": True, **taken(WAVLM_KEYS, config)}
    return section


def encoder_norm(config: Mapping[str, Any]) -> str:
    """`layer` or `group`: what the front-end normalises over."""
    return "layer" if config["model_type"] == "data2vec-audio" else config["feat_extract_norm"]


def taken(keys: tuple[tuple[str, str, Any], ...], config: Mapping[str, Any]) -> dict[str, Any]:
    return {ours: config[theirs] for ours, theirs, _ in keys}


def encoder_shapes(section: Mapping[str, Any]) -> Params:
    """The parameters of an encoder, as shapes."""
    config = from_section(Wav2Vec2Config, section, "encoder")
    return jax.eval_shape(Pure(lambda rngs: Wav2Vec2Encoder(config, "learned", rngs)).init, jax.random.key(0))


def their_name(path: tuple[Any, ...]) -> str:
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    for pattern, replacement in NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def fitted(name: str, array: np.ndarray, shape: tuple[int, ...] | None = None) -> jax.Array:
    """float32 in our layout, checked to be finite, and against `shape`, if given."""
    if not jnp.issubdtype(array.dtype, jnp.floating):  # of quantised weights, whose scale is elsewhere
        raise UserError(f"{name} has type {array.dtype}; only floating point can be read: save the weights as float32")
    ours = turned(name, array)
    if shape is not None:
        if ours.size != math.prod(shape) or (ours.ndim == len(shape) and ours.shape != shape):
            asked = turned(name, np.broadcast_to(0, shape)).shape
            raise UserError(f"{name} has shape {array.shape}; its config.json asks for {asked}")
        ours = ours.reshape(shape)
    return jnp.asarray(checked.array(np.asarray(ours, np.float32), f"model.safetensors: {name}", shape=ours.shape))


def turned(name: str, array: np.ndarray) -> np.ndarray:
    """From their layout to ours and back: theirs is (out, in, kernel), ours (kernel, in, out)."""
    table = name.endswith(("embed.weight", "codevectors"))  # rows are rows there, too
    return array if table else array.T
