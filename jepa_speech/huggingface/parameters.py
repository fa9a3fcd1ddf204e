"""Convert arrays of transformers' encoders to parameters of ours, by the entry of their model type in `families.py`.

Every parameter that inference uses must be in the weights. Others are initialised if they are missing. Other arrays in
the weights are not used.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech import checked
from jepa_speech.config import from_section
from jepa_speech.errors import UserError
from jepa_speech.huggingface.config import check_sizes, checked_config, lacking
from jepa_speech.huggingface.families import FAMILIES
from jepa_speech.huggingface.family import Family
from jepa_speech.huggingface.names import BATCH_NORM, DIRECTION, GAIN, OLDER, POSITIONS, renamed, their_name, turned
from jepa_speech.nn.batch_norm import EPSILON
from jepa_speech.nn.build_encoder import build_encoder, encoder_kind
from jepa_speech.nn.masks import MaskConfig
from jepa_speech.nn.module import Params

LANDMARK = "feature_projection.projection.weight"  # in every encoder, and in no head
TRAINING = {"masked_spec_embed"}  # parameters that only training with masks uses
MODULES = ("feature_extractor.", "feature_projection.", "encoder.")  # beginnings of names of the encoder's weights
BUFFERS = ("num_batches_tracked", "position_ids", "inv_freq")  # ends of names of arrays that hold no weights
STATISTICS = ("running_mean", "running_var")


class Imported(NamedTuple):
    """section: config section `encoder`. encoder: its parameters, float32. extra: the parameters of heads, as a
    tree. not_taken: names of arrays that are not used. ignored: those of them that look like weights of the encoder.
    drawn: names of parameters that the weights lack and that were initialised.
    """

    section: dict[str, Any]
    encoder: Params
    extra: Params
    not_taken: list[str]
    ignored: list[str]
    drawn: list[str]


def from_huggingface(
    config: Mapping[str, Any], arrays: Mapping[str, np.ndarray], where: str = "config.json"
) -> Imported:
    """Returns an encoder and the heads it was trained with, from a config and its arrays by name.

    where: names the config's file. Raises UserError for a model type or a config value that cannot be read, and for
    missing or misshapen arrays.
    """
    config = checked_config(config, where)
    kind = config["model_type"]
    family = FAMILIES[kind]
    section = family.section(config)
    ours, others = split(arrays, kind, where)
    if section.get("positions", "conv") == "conv":
        ours = with_weight_norm(ours)
    check_sizes(config, ours, where)
    shapes = encoder_shapes(section)
    wanted = {their_name(path, family.names) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)}
    statistics = {BATCH_NORM + name for name in STATISTICS} if f"{BATCH_NORM}weight" in wanted else set()
    drawn = sorted((wanted & TRAINING) - ours.keys())
    if missing := sorted((wanted | statistics) - ours.keys() - TRAINING):
        raise lacking(missing, kind, where)
    if statistics:
        ours |= scale_and_shift(ours, where)

    def fill(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:
        name = their_name(path, family.names)
        if name in ours:
            return fitted(name, ours[name], where, leaf.shape)
        return jax.random.uniform(jax.random.key(0), leaf.shape)

    encoder = jax.tree_util.tree_map_with_path(fill, shapes)
    inside = {name: x for name, x in ours.items() if name not in wanted | statistics}
    unused = others | inside
    extra = heads(family, unused, config, where)
    ignored = sorted(
        name
        for name in inside
        if name.startswith(MODULES) and not name.endswith(BUFFERS) and not name.startswith(family.unused)
    )
    return Imported(section, encoder, extra, sorted(unused.keys() - family.heads.keys()), ignored, drawn)


def split(
    arrays: Mapping[str, np.ndarray], kind: str, where: str
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns (the encoder's arrays, all others), by current names, without the prefix of a wrapper."""
    prefix = encoder_prefix(arrays, kind, where)
    wrapper = prefix.removesuffix(FAMILIES[kind].prefix)
    ours = {renamed(name.removeprefix(prefix), OLDER): x for name, x in arrays.items() if name.startswith(prefix)}
    return ours, {name.removeprefix(wrapper): x for name, x in arrays.items() if not name.startswith(prefix)}


def encoder_prefix(arrays: Mapping[str, np.ndarray], kind: str, where: str) -> str:
    """Returns the prefix of the encoder's arrays: the model type's, none, or the only other one in the weights."""
    found = sorted(name.removesuffix(LANDMARK) for name in arrays if f".{name}".endswith(f".{LANDMARK}"))
    for usual in (FAMILIES[kind].prefix, ""):
        if usual in found:
            return usual
    if not found:
        raise lacking([LANDMARK], kind, where)
    if len(found) > 1:
        raise UserError(
            f"{where}: the weights hold {len(found)} encoders, {', '.join(name + '*' for name in found[:4])}: save one "
            "of them alone"
        )
    return found[0]


def with_weight_norm(ours: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays with the two parameters of a weight norm in place of a plain weight of the positions, which
    remains in weights from which the norm was removed.
    """
    plain = ours.get(f"{POSITIONS}weight")
    others = {GAIN, DIRECTION, f"{BATCH_NORM}weight"}  # with a batch norm, the weight is plain in training, too
    if plain is None or plain.ndim != 3 or others & ours.keys():
        return ours
    direction = np.asarray(plain, np.float32)
    gain = np.sqrt(np.square(direction).sum((0, 1), keepdims=True))  # (1, 1, K)
    rest = {name: x for name, x in ours.items() if name != f"{POSITIONS}weight"}
    return rest | {GAIN: gain, DIRECTION: np.where(gain > 0, direction, 1)}


def scale_and_shift(ours: Mapping[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
    """Returns the weight and the bias of a batch norm with its running statistics folded in."""
    weight, bias, mean, variance = (
        checked.array(
            np.asarray(ours[BATCH_NORM + name], np.float64),
            f"{where}: {BATCH_NORM}{name} in the weights",
            shape=ours[f"{BATCH_NORM}weight"].shape,
            least=0 if name == "running_var" else None,
        )
        for name in ("weight", "bias", *STATISTICS)
    )
    scale = weight / np.sqrt(variance + EPSILON)
    found = {f"{BATCH_NORM}weight": scale, f"{BATCH_NORM}bias": bias - mean * scale}
    return {name: x.astype(np.float32) for name, x in found.items()}


def heads(family: Family, arrays: Mapping[str, np.ndarray], config: Mapping[str, Any], where: str) -> Params:
    """Returns the parameters of those heads in the weights that the family's objective has too."""
    extra: Params = {}
    for name, (*path, last) in family.heads.items():
        if name in arrays:
            place = extra
            for key in path:
                place = place.setdefault(key, {})
            place[last] = fitted(name, arrays[name], where)
            if last == "vectors":
                place[last] = by_group(place[last], config, where)
    return extra


def by_group(vectors: jax.Array, config: Mapping[str, Any], where: str) -> jax.Array:
    """Returns code vectors (1, G V, D/G) as (G, V, D/G)."""
    groups = config["num_codevector_groups"]
    if vectors.ndim != 3 or vectors.shape[0] != 1 or vectors.shape[1] % groups:
        raise UserError(
            f"{where}: num_codevector_groups = {groups}, and quantizer.codevectors has shape {vectors.shape}: "
            "expected (1, groups * codes, width)"
        )
    return vectors.reshape(groups, -1, vectors.shape[-1])


def encoder_shapes(section: Mapping[str, Any]) -> Params:
    """Returns the shapes of the parameters of a config section's encoder."""
    config: Any = from_section(encoder_kind(section["name"]), section, "encoder")
    return jax.eval_shape(build_encoder(config, MaskConfig()).init, jax.random.key(0))


def fitted(name: str, array: np.ndarray, where: str, shape: tuple[int, ...] | None = None) -> jax.Array:
    """Returns an array in our layout, float32, finite, and of `shape` if given. where: names the config's file."""
    label = f"{where}: {name} in the weights"
    if not jnp.issubdtype(array.dtype, jnp.floating):  # of quantised weights, whose scale is elsewhere
        raise UserError(f"{label} has type {array.dtype}; only floating point can be read: save the weights as float32")
    ours = turned(name, array)
    if shape is not None:
        if ours.size != math.prod(shape) or (ours.ndim == len(shape) and ours.shape != shape):
            asked = turned(name, np.broadcast_to(0, shape)).shape
            raise UserError(f"{label} has shape {array.shape}; the config asks for {asked}")
        ours = ours.reshape(shape)
    return jnp.asarray(checked.array(np.asarray(ours, np.float32), label, shape=ours.shape))
