"""Read and check config.json of a model of transformers, or of an export of our own encoder.

Sizes are compared with the arrays before a module is built, because building takes time for every block and would not
end with a wrong number.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jepa_speech import checked
from jepa_speech.config import LARGEST
from jepa_speech.errors import UserError
from jepa_speech.huggingface.families import FAMILIES, OWN
from jepa_speech.huggingface.family import Family
from jepa_speech.huggingface.wav2vec2 import CODES
from jepa_speech.nn.conv_stack import CONVOLUTIONS

CHOICES = {
    "feat_extract_norm": ("group", "layer"),
    "block_type": ("conformer", "transformer"),
    "frontend": ("conv", "logmel"),
}
# Missing codebooks are initialised with these sizes, so no array bounds them. No array has the distance in its shape.
MOST = dict.fromkeys(CODES, 8192) | {"max_bucket_distance": 2**16, "rotary_embedding_base": 2**31}
LEAST = {
    "layer_norm_eps": 1e-12,
    "conv_pos_kernel_size": 3,
    "left_max_position_embeddings": 0,
    "right_max_position_embeddings": 0,
}


def checked_config(config: Any, where: str) -> dict[str, Any]:
    """Returns a config with every key that is read here, each of its type and within its range.

    where: names the file. Raises UserError for another value, and for a model that cannot be read.
    """
    kind = checked.field(config, "model_type", str, where, choices=list(FAMILIES))
    family = FAMILIES[kind]
    found = {key: _setting(config, key, default, where) for key, default in family.defaults.items()}
    for key in family.nullable:
        found[key] = None if config.get(key) is None else _setting(config, key, 1, where)
    _check_only(family, dict(config) | found, where)
    if kind != OWN:
        found |= {"conv_dim": _conv_dim(config, where)}
    _check_multiples(family, found, where)
    return dict(config) | found


def _setting(config: Mapping[str, Any], key: str, default: Any, where: str) -> Any:
    if isinstance(default, (bool, str)):
        return checked.field(config, key, type(default), where, default=default, choices=CHOICES.get(key))
    if isinstance(default, float):  # all floats are at most 1
        return checked.field(config, key, (int, float), where, default=default, least=LEAST.get(key, 0), most=1)
    return checked.field(config, key, int, where, default=default, least=LEAST.get(key, 1), most=MOST.get(key, LARGEST))


def _check_only(family: Family, config: Mapping[str, Any], where: str) -> None:
    """Raises UserError for a key that makes the encoder compute something that is not implemented here."""
    for key, only in family.only.items():
        value = config.get(key, only.values[0])
        value = list(value) if isinstance(value, tuple) else value
        if not any(type(value) is type(allowed) and value == allowed for allowed in only.values):
            known = " or ".join(map(str, only.values))
            raise UserError(f"{where}: {key} = {checked.shown(value)}; only {known} can be read: {only.works}")


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


def _check_multiples(family: Family, found: Mapping[str, Any], where: str) -> None:
    for key, other, times in family.multiples:
        if found[key] % (times * found[other]):
            factor = f"{times} * " if times > 1 else ""
            raise UserError(f"{where}: {key} = {found[key]}: must be a multiple of {factor}{other} = {found[other]}")
    if (buckets := found.get("num_buckets")) is not None:
        distance = found["max_bucket_distance"]
        if buckets % 4 or distance <= buckets // 4:
            raise UserError(
                f"{where}: num_buckets = {buckets}: must be a multiple of 4, and less than 4 * max_bucket_distance = "
                f"{4 * distance}"
            )


def check_sizes(config: Mapping[str, Any], arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Raises UserError where a size of a checked config is not that of the arrays, or an array that shows one is
    missing.
    """
    kind = config["model_type"]
    for key, name, axis in FAMILIES[kind].places(config):
        if axis is None:
            size = len({other[len(name) :].partition(".")[0] for other in arrays if other.startswith(name)})
            name += "*"
        elif name not in arrays:
            raise lacking([name], kind, where)
        else:
            shape = arrays[name].shape
            size = shape[axis] if axis < len(shape) else 1
        given = config[key][0] if key == "conv_dim" else config[key]
        if given != size:
            raise UserError(
                f"{where}: {key} = {given}, but {name} in the weights has {size}: config.json and the weights are of "
                "different models; download both again"
            )


def lacking(names: list[str], kind: str, where: str) -> UserError:
    """Returns the error for arrays that an encoder of the config's type computes with and the weights lack."""
    others = f" and {len(names) - 1} more" if names[1:] else ""
    return UserError(
        f"{where}: the weights lack {names[0]}{others}, which a {kind} encoder of this config has: they are damaged or "
        "of another model; download both again"
    )
