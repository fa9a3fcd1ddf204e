"""Read and check config.json of a model of transformers, or of an export of our own encoder.

Sizes are compared with the arrays before a module is built from them: building takes time for every block, so with a
wrong number it would never end.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jepa_speech import checked
from jepa_speech.config import LARGEST
from jepa_speech.errors import UserError
from jepa_speech.nn.conv_stack import CONVOLUTIONS

OWN = "jepa_speech"  # the model type of our own encoder

# Keys of config section `encoder`, theirs, and what transformers takes for one that a config leaves out.
KEYS = (
    ("conv_bias", "conv_bias", False),
    ("width", "hidden_size", 768),
    ("blocks", "num_hidden_layers", 12),
    ("heads", "num_attention_heads", 12),
    ("hidden", "intermediate_size", 3072),
    ("position_groups", "num_conv_pos_embedding_groups", 16),
    ("dropout", "hidden_dropout", 0.1),
    ("attention_dropout", "attention_dropout", 0.1),
    ("activation_dropout", "activation_dropout", 0.1),
    ("input_dropout", "feat_proj_dropout", 0.0),
    ("feature_dropout", "feat_quantizer_dropout", 0.0),
    ("layerdrop", "layerdrop", 0.1),
)
WAVLM_KEYS = (("relative_buckets", "num_buckets", 320), ("relative_distance", "max_bucket_distance", 800))
OWN_KEYS = (
    ("name", "block_type", "conformer"),
    ("frontend", "frontend", "conv"),
    ("channels", "conv_channels", 512),
    ("width", "hidden_size", 512),
    ("blocks", "num_hidden_layers", 4),
    ("heads", "num_attention_heads", 8),
    ("hidden", "intermediate_size", 2048),
    ("kernel", "kernel_size", 31),
    ("dropout", "hidden_dropout", 0.1),
)

# Values that all supported models share, which are also the defaults of missing keys.
FIXED = {
    "conv_kernel": [kernel for kernel, _ in CONVOLUTIONS],
    "conv_stride": [stride for _, stride in CONVOLUTIONS],
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "layer_norm_eps": 1e-5,
}

# By model type: each key that is read, and its default. The type of a key is that of its default.
PUBLISHED = {theirs: default for _, theirs, default in KEYS} | {"mask_time_prob": 0.05}
CONV_POSITIONS = {"feat_extract_norm": "group", "do_stable_layer_norm": False, "num_conv_pos_embeddings": 128}
CODES = {
    "num_codevector_groups": 2,
    "num_codevectors_per_group": 320,
    "codevector_dim": 256,
    "proj_codevector_dim": 256,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "wav2vec2": PUBLISHED | CONV_POSITIONS | CODES,
    "hubert": PUBLISHED | CONV_POSITIONS,
    "wavlm": PUBLISHED | CONV_POSITIONS | {theirs: default for _, theirs, default in WAVLM_KEYS},
    "data2vec-audio": PUBLISHED | {"num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19},
    OWN: {theirs: default for _, theirs, default in OWN_KEYS} | {"masked_embedding": True},
}
CHOICES = {
    "feat_extract_norm": ("group", "layer"),
    "block_type": ("conformer", "transformer"),
    "frontend": ("conv", "logmel"),
}
# Missing codebooks are initialised with these sizes, so no array bounds them. No array has the distance in its shape.
MOST = dict.fromkeys(CODES, 8192) | {"max_bucket_distance": 2**16}


class Place(NamedTuple):
    """key: whose value axis `axis` of the array `name` has, or, without an axis, the number of children of `name`."""

    key: str
    name: str
    axis: int | None = None


def places(config: Mapping[str, Any]) -> list[Place]:
    """Returns where the arrays of a model show the sizes that its config.json gives."""
    if config["model_type"] == OWN:
        conformer = config["block_type"] == "conformer"
        return [
            Place("num_hidden_layers", "blocks."),
            Place("hidden_size", "projection.weight", 0),
            *([Place("conv_channels", "projection.weight", 1)] if config["frontend"] == "conv" else []),
            Place("intermediate_size", f"blocks.0.{'ff1' if conformer else 'ff'}.up.weight", 0),
            Place("kernel_size", "blocks.0.convolution.taps" if conformer else "local.taps", 0),
        ]
    found = [
        Place("num_hidden_layers", "encoder.layers."),
        Place("hidden_size", "feature_projection.projection.weight", 0),
        Place("conv_dim", "feature_projection.projection.weight", 1),
        Place("intermediate_size", "encoder.layers.0.feed_forward.intermediate_dense.weight", 0),
    ]
    if config["model_type"] == "data2vec-audio":
        found.append(Place("num_conv_pos_embeddings", "encoder.pos_conv_embed.layers."))
        found.append(Place("conv_pos_kernel_size", "encoder.pos_conv_embed.layers.0.conv.weight", 2))
    else:
        kernel = "encoder.pos_conv_embed.conv.parametrizations.weight.original1"
        found.append(Place("num_conv_pos_embeddings", kernel, 2))
    if config["model_type"] == "wavlm":
        table = "encoder.layers.0.attention.rel_attn_embed.weight"
        found += [Place("num_buckets", table, 0), Place("num_attention_heads", table, 1)]
    return found


def checked_config(config: Any, where: str) -> dict[str, Any]:
    """Returns a config with every key that is read here, each of its type and within its range.

    where: names the file. Raises UserError for another value, and for a model that cannot be read.
    """
    kind = checked.field(config, "model_type", str, where, choices=list(DEFAULTS))
    found = {key: _setting(config, key, default, where) for key, default in DEFAULTS[kind].items()}
    if kind != OWN:
        found |= {"conv_dim": _conv_dim(config, where)}
        for key, only in FIXED.items():
            value = config.get(key, only)
            if (list(value) if isinstance(value, tuple) else value) != only:
                raise UserError(f"{where}: {key} = {checked.shown(value)}; only {only} can be read")
    _check_multiples(kind, found, where)
    return dict(config) | found


def _setting(config: Mapping[str, Any], key: str, default: Any, where: str) -> Any:
    if isinstance(default, (bool, str)):
        return checked.field(config, key, type(default), where, default=default, choices=CHOICES.get(key))
    if isinstance(default, float):  # all floats are shares
        return checked.field(config, key, (int, float), where, default=default, least=0, most=1)
    return checked.field(config, key, int, where, default=default, least=1, most=MOST.get(key, LARGEST))


def _conv_dim(config: Mapping[str, Any], where: str) -> list[int]:
    """Returns the channels of the seven convolutions, which must be equal."""
    channels = list(checked.field(config, "conv_dim", (list, tuple), where, default=[512] * len(CONVOLUTIONS)))
    if len(channels) != len(CONVOLUTIONS):
        raise UserError(f"{where}: conv_dim = {checked.shown(channels)}; only {len(CONVOLUTIONS)} of them can be read")
    for value in channels:
        checked.value(value, f"{where}: conv_dim", int, least=1, most=LARGEST)
    if len(set(channels)) != 1:
        raise UserError(f"{where}: conv_dim = {channels}; only convolutions of one width can be read")
    return channels


def _check_multiples(kind: str, found: Mapping[str, Any], where: str) -> None:
    pairs = [("hidden_size", "num_attention_heads", 2 if kind == OWN else 1)]  # positions rotate pairs of channels
    if kind != OWN:
        pairs.append(("hidden_size", "num_conv_pos_embedding_groups", 1))
    for key, other, times in pairs:
        if found[key] % (times * found[other]):
            factor = f"{times} * " if times > 1 else ""
            raise UserError(f"{where}: {key} = {found[key]}: must be a multiple of {factor}{other} = {found[other]}")
    if kind == "wavlm" and (found["num_buckets"] % 4 or found["max_bucket_distance"] <= found["num_buckets"] // 4):
        raise UserError(
            f"{where}: num_buckets = {found['num_buckets']}: must be a multiple of 4, and less than "
            f"4 * max_bucket_distance = {4 * found['max_bucket_distance']}"
        )


def check_sizes(config: Mapping[str, Any], arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Raises UserError where a size of a checked config is not that of the arrays, or an array that shows one is
    missing.
    """
    for key, name, axis in places(config):
        if axis is None:
            size = len({other[len(name) :].partition(".")[0] for other in arrays if other.startswith(name)})
            name += "*"
        elif name not in arrays:
            raise UserError(f"{where}: not a {config['model_type']} encoder: it lacks {name}")
        else:
            shape = arrays[name].shape
            size = shape[axis] if axis < len(shape) else 1
        given = config[key][0] if key == "conv_dim" else config[key]
        if given != size:
            raise UserError(
                f"{where}: {key} = {given}, but {name} in the weights has {size}: config.json and model.safetensors "
                "are of different models; download both again"
            )
