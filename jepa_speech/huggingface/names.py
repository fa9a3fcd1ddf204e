"""Names and layouts of transformers' arrays for those of our encoders, used to read (`parameters.py`) and to write."""

import re
from typing import Any

import jax
import numpy as np

Names = tuple[tuple[str, str], ...]  # substitutions in the path of a parameter, applied in order

BATCH_NORM = "encoder.pos_conv_embed.batch_norm."
POSITIONS = "encoder.pos_conv_embed.conv."
# The two parameters of a weight norm: the gain of each tap, and the taps' direction.
GAIN, DIRECTION = (f"{POSITIONS}parametrizations.weight.original{i}" for i in (0, 1))
WAV2VEC2_NAMES: Names = (
    (r"^frontend\.convolutions\.(\d+)\.", r"feature_extractor.conv_layers.\1.conv."),
    (r"^frontend\.norms\.(\d+)\.", r"feature_extractor.conv_layers.\1.layer_norm."),
    (r"^frontend\.final_norm\.", "feature_projection.layer_norm."),
    (r"^projection\.", "feature_projection.projection."),
    (r"^mask_embedding$", "masked_spec_embed"),
    (r"^positions\.kernels\.(\d+)$", r"encoder.pos_conv_embed.layers.\1.conv.weight"),
    (r"^positions\.biases\.(\d+)$", r"encoder.pos_conv_embed.layers.\1.conv.bias"),
    (r"^positions\.g$", GAIN),
    (r"^positions\.v$", DIRECTION),
    (r"^positions\.scale$", f"{BATCH_NORM}weight"),
    (r"^positions\.shift$", f"{BATCH_NORM}bias"),
    (r"^positions\.", POSITIONS),
    (r"^relative_bias\.table$", "encoder.layers.0.attention.rel_attn_embed.weight"),
    (r"^norm\.", "encoder.layer_norm."),
    (r"\.adapter\.norm\.", ".adapter_layer.norm."),
    (r"\.adapter\.down\.", ".adapter_layer.linear_1."),
    (r"\.adapter\.up\.", ".adapter_layer.linear_2."),
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
# Substitutions of names of older versions by the current ones.
OLDER: Names = (
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
    (r"^(mask_time_emb_vector|mask_emb)$", "masked_spec_embed"),
)
# Arrays to which transformers' layout adds axes of length 1: which axes.
AXES = {
    "parametrizations.weight.original0": (0, 1),
    "gru_rel_pos_const": (0, 2, 3),
    "depthwise_conv.weight": (1,),
    "pointwise_conv1.weight": (2,),
    "pointwise_conv2.weight": (2,),
}
# Tables: not transposed.
TABLES = ("embed.weight", "embedding.weight", "codevectors", "pos_bias_u", "pos_bias_v")


def their_name(path: tuple[Any, ...], names: Names) -> str:
    """Returns transformers' name of the parameter at `path` of our encoder."""
    return renamed(jax.tree_util.keystr(path, simple=True, separator="."), names)


def renamed(name: str, names: Names) -> str:
    for pattern, replacement in names:
        name = re.sub(pattern, replacement, name)
    return name


def turned(name: str, array: np.ndarray) -> np.ndarray:
    """Converts an array from transformers' layout, (out, in, kernel), to ours, (kernel, in, out), or back."""
    return array if name.endswith(TABLES) else array.T
