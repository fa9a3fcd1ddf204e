"""Wav2Vec2-Conformer and Wav2Vec2-BERT of transformers, which `nn/conformer_encoders.py` computes: the config keys, the
arrays' names, and where arrays show sizes.
"""

from typing import Any

import numpy as np

from jepa_speech.features.kaldi import BANDS
from jepa_speech.huggingface.family import Config, Keys, Multiple, Only, Place, level_of, taken
from jepa_speech.huggingface.names import WAV2VEC2_NAMES, Names
from jepa_speech.huggingface.wav2vec2 import ADAPTER, CHOOSE, PUBLISHED
from jepa_speech.nn.conformer_encoders import Wav2Vec2BertConfig, Wav2Vec2ConformerConfig

CONFORMER_KEYS: Keys = (
    ("width", "hidden_size", 768),
    ("blocks", "num_hidden_layers", 12),
    ("heads", "num_attention_heads", 12),
    ("hidden", "intermediate_size", 3072),
    ("kernel", "conv_depthwise_kernel_size", 31),
    ("rotary_base", "rotary_embedding_base", 10_000),
    ("dropout", "hidden_dropout", 0.1),
    ("attention_dropout", "attention_dropout", 0.1),
    ("activation_dropout", "activation_dropout", 0.1),
    ("convolution_dropout", "conformer_conv_dropout", 0.1),
    ("input_dropout", "feat_proj_dropout", 0.0),
    ("layerdrop", "layerdrop", 0.1),
    ("feature_dropout", "feat_quantizer_dropout", 0.0),
    ("norm", "feat_extract_norm", "group"),
    ("conv_bias", "conv_bias", False),
)
BERT_KEYS: Keys = (
    ("width", "hidden_size", 1024),
    ("blocks", "num_hidden_layers", 24),
    ("heads", "num_attention_heads", 16),
    ("hidden", "intermediate_size", 4096),
    ("kernel", "conv_depthwise_kernel_size", 31),
    ("rotary_base", "rotary_embedding_base", 10_000),
    ("before", "left_max_position_embeddings", 64),
    ("after", "right_max_position_embeddings", 8),
    ("dropout", "hidden_dropout", 0.0),
    ("attention_dropout", "attention_dropout", 0.0),
    ("activation_dropout", "activation_dropout", 0.0),
    ("convolution_dropout", "conformer_conv_dropout", 0.1),
    ("input_dropout", "feat_proj_dropout", 0.0),
    ("layerdrop", "layerdrop", 0.1),
)
MULTIPLES = (Multiple("hidden_size", "num_attention_heads"),)
ACTIVATIONS = {"gelu": "gelu", "gelu_python": "gelu", "swish": "silu", "silu": "silu"}
POSITIONS = {"relative": "relative", "rotary": "rotary", "relative_key": "relative_key", None: "none"}

CONFORMER_ONLY = (
    PUBLISHED
    | ADAPTER
    | {
        "hidden_act": Only(tuple(ACTIVATIONS), CHOOSE.format("one of these activations")),
        "position_embeddings_type": Only(("relative", "rotary", None), CHOOSE.format("one of these")),
        "layer_norm_eps": Only((1e-5,), CHOOSE.format("this epsilon")),
    }
)
BERT_ONLY = {
    "add_adapter": Only((False, True, None), "set it to true or false"),  # read with a CTC layer: bert_adapter.py
    "hidden_act": Only(("swish", "silu", "gelu", "gelu_python"), CHOOSE.format("one of these activations")),
    "position_embeddings_type": Only(
        ("relative_key", "relative", "rotary", None), CHOOSE.format("one of these types of positions")
    ),
    "feature_projection_input_dim": Only((2 * BANDS,), CHOOSE.format("two frames of 80 bands side by side")),
    "layer_norm_eps": Only((1e-5,), CHOOSE.format("this epsilon")),
    "quantization_config": PUBLISHED["quantization_config"],
}

BLOCK_NAMES: Names = (
    (r"^blocks\.(\d+)\.norm\.", r"encoder.layers.\1.final_layer_norm."),
    (r"\.ff([12])_norm\.", r".ffn\1_layer_norm."),
    (r"\.ff([12])\.up\.", r".ffn\1.intermediate_dense."),
    (r"\.ff([12])\.down\.", r".ffn\1.output_dense."),
    (r"\.attention_norm\.", ".self_attn_layer_norm."),
    (r"\.attention\.positions\.linear\.", ".self_attn.linear_pos."),
    (r"\.attention\.positions\.content_bias$", ".self_attn.pos_bias_u"),
    (r"\.attention\.positions\.position_bias$", ".self_attn.pos_bias_v"),
    (r"\.attention\.positions\.table$", ".self_attn.distance_embedding.weight"),
    (r"\.attention\.([qkv])[a-z]+\.", r".self_attn.linear_\1."),
    (r"\.attention\.out\.", ".self_attn.linear_out."),
    (r"\.convolution\.norm_in\.", ".conv_module.layer_norm."),
    (r"\.convolution\.gate\.", ".conv_module.pointwise_conv1."),
    (r"\.convolution\.taps$", ".conv_module.depthwise_conv.weight"),
    (r"\.convolution\.out\.", ".conv_module.pointwise_conv2."),
)
CONFORMER_NAMES: Names = (
    *BLOCK_NAMES,
    (r"\.convolution\.norm\.mean$", ".conv_module.batch_norm.running_mean"),
    (r"\.convolution\.norm\.variance$", ".conv_module.batch_norm.running_var"),
    (r"\.convolution\.norm\.", ".conv_module.batch_norm."),
    *WAV2VEC2_NAMES,
)
BERT_NAMES: Names = (
    *BLOCK_NAMES,
    (r"\.convolution\.norm\.", ".conv_module.depthwise_layer_norm."),
    *WAV2VEC2_NAMES,
)
# Arrays of transformers' Wav2Vec2-Conformer that it never computes with.
UNUSED = "encoder.pos_conv_embed."


def conformer_section(config: Config) -> dict[str, Any]:
    norm = config["feat_extract_norm"]
    return {
        "name": "wav2vec2_conformer",
        "channels": config["conv_dim"][0],
        **level_of(config),
        "gradient_scale": 0.1 if norm == "group" else 1.0,  # as of wav2vec 2.0
        **choices(config, CONFORMER_ONLY),
        **taken(config, CONFORMER_KEYS),
    }


def bert_section(config: Config) -> dict[str, Any]:
    return {"name": "wav2vec2_bert", **choices(config, BERT_ONLY), **taken(config, BERT_KEYS)}


def choices(config: Config, only: dict[str, Only]) -> dict[str, str]:
    """Returns activation and positions; a missing key means the first of its values."""
    activation, positions = (config.get(key, only[key].values[0]) for key in ("hidden_act", "position_embeddings_type"))
    return {"activation": ACTIVATIONS[activation], "positions": POSITIONS[positions]}


def choices_of(encoder: Wav2Vec2ConformerConfig | Wav2Vec2BertConfig) -> dict[str, Any]:
    """Returns the keys of config.json for activation and positions: the inverse of `choices`."""
    return {
        "hidden_act": {"silu": "swish"}.get(encoder.activation, encoder.activation),
        "position_embeddings_type": None if encoder.positions == "none" else encoder.positions,
    }


def conformer_config(encoder: Wav2Vec2ConformerConfig) -> dict[str, Any]:
    """Returns the keys of config.json that are not in CONFORMER_KEYS."""
    shared = {key: PUBLISHED[key].values[0] for key in ("conv_kernel", "conv_stride", "feat_extract_activation")}
    layers = len(shared["conv_kernel"])
    sizes = {"conv_dim": [encoder.channels] * layers, "num_feat_extract_layers": layers}
    unused = {"num_conv_pos_embeddings": 1, "num_conv_pos_embedding_groups": encoder.width}
    return shared | sizes | unused | choices_of(encoder)


def bert_config(encoder: Wav2Vec2BertConfig) -> dict[str, Any]:
    """Returns the keys of config.json that are not in BERT_KEYS."""
    return {"feature_projection_input_dim": encoder.features} | choices_of(encoder)


def block_places(config: Config) -> list[Place]:
    return [
        Place("num_hidden_layers", "encoder.layers."),
        Place("hidden_size", "feature_projection.projection.weight", 0),
        Place("intermediate_size", "encoder.layers.0.ffn1.intermediate_dense.weight", 0),
        Place("conv_depthwise_kernel_size", "encoder.layers.0.conv_module.depthwise_conv.weight", 2),
    ]


def conformer_places(config: Config) -> list[Place]:
    return [*block_places(config), Place("conv_dim", "feature_projection.projection.weight", 1)]


def unread(encoder: Wav2Vec2ConformerConfig) -> dict[str, np.ndarray]:
    """Returns the arrays that transformers' Wav2Vec2-Conformer has and our encoder does not: a convolution of one frame
    that it does not compute with, and the buffers of its batch norms and rotary positions.
    """
    conv = f"{UNUSED}conv."
    found = {
        f"{conv}bias": np.zeros(encoder.width, np.float32),
        f"{conv}parametrizations.weight.original0": np.ones((1, 1, 1), np.float32),
        f"{conv}parametrizations.weight.original1": np.ones((encoder.width, 1, 1), np.float32),
    }
    for i in range(encoder.blocks):
        found[f"encoder.layers.{i}.conv_module.batch_norm.num_batches_tracked"] = np.zeros((), np.int64)
    if encoder.positions == "rotary":
        pairs = np.arange(0, encoder.width // encoder.heads, 2, dtype=np.float32) / (encoder.width // encoder.heads)
        found["encoder.embed_positions.inv_freq"] = (1 / np.float32(encoder.rotary_base) ** pairs).astype(np.float32)
    return found
