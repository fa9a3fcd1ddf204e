"""Convert the adapter of transformers' Wav2Vec2-BERT (`add_adapter`) to `nn/conformer_adapter.py` and back.

It is read only together with a CTC layer on it, because the layers of the encoder come before it.
"""

from collections.abc import Mapping
from typing import Any, cast

import jax
import numpy as np

from jepa_speech import checked
from jepa_speech.config import LARGEST, from_section
from jepa_speech.errors import UsageError, UserError
from jepa_speech.huggingface.config import lacking
from jepa_speech.huggingface.conformers import ACTIVATIONS
from jepa_speech.huggingface.names import Names, their_name, turned
from jepa_speech.huggingface.parameters import fitted
from jepa_speech.nn.conformer_adapter import Activation
from jepa_speech.nn.conformer_encoders import Wav2Vec2BertConfig
from jepa_speech.nn.module import Params
from jepa_speech.objectives.ctc import CtcConfig, build_adapter

PREFIX = "adapter."  # of its arrays, within those of the encoder
KEYS = (
    ("adapter_layers", "num_adapter_layers"),
    ("adapter_kernel", "adapter_kernel_size"),
    ("adapter_stride", "adapter_stride"),
    ("adapter_activation", "adapter_act"),
)
NAMES: Names = (
    (r"^", PREFIX),
    (r"\.residual\.norm\.", ".residual_layer_norm."),
    (r"\.residual\.convolution\.", ".residual_conv."),
    (r"\.input\.norm\.", ".self_attn_layer_norm."),
    (r"\.input\.convolution\.", ".self_attn_conv."),
    (r"\.attention\.([qkv])[a-z]+\.", r".self_attn.linear_\1."),
    (r"\.attention\.out\.", ".self_attn.linear_out."),
    (r"\.ff_norm\.", ".ffn_layer_norm."),
    (r"\.ff\.up\.", ".ffn.intermediate_dense."),
    (r"\.ff\.down\.", ".ffn.output_dense."),
    (r"\.(kernel|scale)$", ".weight"),
)


def read_adapter(
    theirs: Mapping[str, Any], arrays: Mapping[str, np.ndarray], encoder: Mapping[str, Any], where: str
) -> tuple[Params, CtcConfig]:
    """Returns the adapter's parameters and its keys, from config.json, the arrays, and config section `encoder`.

    where: names the config's file. Raises UserError for a key that cannot be read, and for missing or misshapen arrays.
    """
    keys = checked_keys(theirs, encoder["width"], where)
    check_sizes(keys, arrays, where)
    try:
        adapter = build_adapter(keys, from_section(Wav2Vec2BertConfig, encoder, "encoder"))
    except UsageError as error:
        raise UserError(f"{where}: {error}") from error
    assert adapter is not None
    shapes = jax.eval_shape(adapter.init, jax.random.key(0))
    wanted = {their_name(path, NAMES) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)}
    if missing := sorted(wanted - arrays.keys()):
        raise lacking(missing, theirs["model_type"], where)

    def fill(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:
        name = their_name(path, NAMES)
        return fitted(name, arrays[name], where, leaf.shape)

    return jax.tree_util.tree_map_with_path(fill, shapes), keys


def checked_keys(theirs: Mapping[str, Any], width: int, where: str) -> CtcConfig:
    """Returns the adapter's keys of config.json. Raises UserError for values that cannot be read."""
    layers, kernel, stride = (
        checked.field(theirs, key, int, where, default=default, least=1, most=LARGEST)
        for key, default in (("num_adapter_layers", 1), ("adapter_kernel_size", 3), ("adapter_stride", 2))
    )
    activations = cast(dict[str, Activation], {"relu": "relu"} | ACTIVATIONS)
    activation = checked.field(theirs, "adapter_act", str, where, default="relu", choices=list(activations))
    if theirs.get("output_hidden_size", width) not in (width, None):
        raise UserError(
            f"{where}: output_hidden_size = {checked.shown(theirs['output_hidden_size'])}: an adapter can be read only "
            f"with hidden_size, {width}"
        )
    if theirs.get("use_intermediate_ffn_before_adapter"):
        raise UserError(
            f"{where}: use_intermediate_ffn_before_adapter = true: an adapter can be read only without that layer"
        )
    return CtcConfig(
        adapter_layers=layers, adapter_kernel=kernel, adapter_stride=stride, adapter_activation=activations[activation]
    )


def check_sizes(keys: CtcConfig, arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Raises UserError if number or kernel of the layers is not that of the arrays, before any layer is built."""
    prefix = f"{PREFIX}layers."
    found = len({name[len(prefix) :].partition(".")[0] for name in arrays if name.startswith(prefix)})
    name = f"{prefix}0.residual_conv.weight"
    kernel = arrays[name].shape[2] if name in arrays and arrays[name].ndim == 3 else 0
    sizes = {"num_adapter_layers": (keys.adapter_layers, found), "adapter_kernel_size": (keys.adapter_kernel, kernel)}
    for key, (given, size) in sizes.items():
        if given != size:
            raise UserError(
                f"{where}: {key} = {given}, but the weights have {size}: config.json and the weights are of different "
                "models; download both again"
            )


def section(keys: CtcConfig) -> dict[str, Any]:
    """Returns the adapter's keys of config section `objective`."""
    return {ours: getattr(keys, ours) for ours, _ in KEYS}


def their_config(keys: CtcConfig) -> dict[str, Any]:
    """Returns the adapter's keys of config.json."""
    return {"add_adapter": True} | {theirs: getattr(keys, ours) for ours, theirs in KEYS}


def their_arrays(adapter: Params) -> dict[str, np.ndarray]:
    """Returns the adapter's arrays in transformers' names and layout, float32."""
    leaves = jax.tree_util.tree_leaves_with_path(adapter)
    found = {their_name(path, NAMES): np.asarray(leaf, np.float32) for path, leaf in leaves}
    return {name: turned(name, x) for name, x in found.items()}
