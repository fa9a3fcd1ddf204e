"""Config keys of the model types that `nn/wav2vec2.py` computes: their meaning here, and where arrays show sizes."""

from typing import Any

from jepa_speech.huggingface.family import Config, Keys, Only, Place, level_of, taken
from jepa_speech.nn.conv_stack import CONVOLUTIONS

KEYS: Keys = (
    ("conv_bias", "conv_bias", False),
    ("width", "hidden_size", 768),
    ("blocks", "num_hidden_layers", 12),
    ("heads", "num_attention_heads", 12),
    ("hidden", "intermediate_size", 3072),
    ("epsilon", "layer_norm_eps", 1e-5),
    ("position_groups", "num_conv_pos_embedding_groups", 16),
    ("dropout", "hidden_dropout", 0.1),
    ("attention_dropout", "attention_dropout", 0.1),
    ("activation_dropout", "activation_dropout", 0.1),
    ("input_dropout", "feat_proj_dropout", 0.0),
    ("feature_dropout", "feat_quantizer_dropout", 0.0),
    ("layerdrop", "layerdrop", 0.1),
)
CONV_KEYS: Keys = (
    *KEYS,
    ("norm", "feat_extract_norm", "group"),
    ("pre_norm", "do_stable_layer_norm", False),
    ("position_kernel", "num_conv_pos_embeddings", 128),
)
HUBERT_KEYS: Keys = (("feature_norm", "feat_proj_layer_norm", True),)
WAVLM_KEYS: Keys = (("relative_buckets", "num_buckets", 320), ("relative_distance", "max_bucket_distance", 800))
CODES = {
    "num_codevector_groups": 2,
    "num_codevectors_per_group": 320,
    "codevector_dim": 256,
    "proj_codevector_dim": 256,
}
BATCH_NORM_KEY = "conv_pos_batch_norm"

CHOOSE = "choose a model with {}"
PUBLISHED = {
    "conv_kernel": Only(([kernel for kernel, _ in CONVOLUTIONS],), CHOOSE.format("one frame per 320 samples")),
    "conv_stride": Only(([stride for _, stride in CONVOLUTIONS],), CHOOSE.format("one frame per 320 samples")),
    "hidden_act": Only(("gelu", "gelu_python"), CHOOSE.format("this activation")),
    "feat_extract_activation": Only(("gelu", "gelu_python"), CHOOSE.format("this activation")),
    "quantization_config": Only((None,), "save the weights as float32 without this key"),
}
ADAPTER = {
    "add_adapter": Only(
        (False, None),
        "set it to false to read the encoder without the adapter, whose convolutions shorten its output; heads on the "
        "adapter cannot be used",
    )
}
BLOCK_ADAPTERS = "adapter_attn_dim"


def conv_section(config: Config) -> dict[str, Any]:
    """Returns the section of wav2vec 2.0 and of model types that differ from it only in training."""
    found = {"name": "wav2vec2", "channels": config["conv_dim"][0], **level_of(config), **taken(config, CONV_KEYS)}
    found["adapter"] = adapter_width(config)
    # The published models were trained with these values, which are not in their configs.
    return found | {"gradient_scale": 0.1 if found["norm"] == "group" else 1.0}


def adapter_width(config: Config) -> int:
    """Returns the width inside the adapters, 0 for none: only blocks with norms before their sums have any."""
    return (config.get(BLOCK_ADAPTERS) or 0) if config["do_stable_layer_norm"] else 0


def hubert_section(config: Config) -> dict[str, Any]:
    positions = "scaled" if config[BATCH_NORM_KEY] else "conv"
    return conv_section(config) | taken(config, HUBERT_KEYS) | {"positions": positions}


def wavlm_section(config: Config) -> dict[str, Any]:
    return conv_section(config) | taken(config, WAVLM_KEYS) | {"relative_bias": True, "adapter": 0}


def data2vec_section(config: Config) -> dict[str, Any]:
    depth = config["num_conv_pos_embeddings"]
    return {
        "name": "wav2vec2",
        "norm": "layer",
        "channels": config["conv_dim"][0],
        **level_of(config),
        **taken(config, KEYS),
        "gradient_scale": 1.0,
        "positions": "stacked",
        "position_kernel": depth * config["conv_pos_kernel_size"],
        "position_depth": depth,
    }


def common_places(config: Config) -> list[Place]:
    return [
        Place("num_hidden_layers", "encoder.layers."),
        Place("hidden_size", "feature_projection.projection.weight", 0),
        Place("conv_dim", "feature_projection.projection.weight", 1),
        Place("intermediate_size", "encoder.layers.0.feed_forward.intermediate_dense.weight", 0),
    ]


def adapter_places(config: Config) -> list[Place]:
    adapter = Place(BLOCK_ADAPTERS, "encoder.layers.0.adapter_layer.linear_1.weight", 0)
    return [*conv_places(config), *([adapter] if adapter_width(config) else [])]


def conv_places(config: Config) -> list[Place]:
    plain = "weight" if config.get(BATCH_NORM_KEY) else "parametrizations.weight.original1"
    return [
        *common_places(config),
        Place("num_conv_pos_embeddings", f"encoder.pos_conv_embed.conv.{plain}", 2),
    ]


def wavlm_places(config: Config) -> list[Place]:
    table = "encoder.layers.0.attention.rel_attn_embed.weight"
    return [*conv_places(config), Place("num_buckets", table, 0), Place("num_attention_heads", table, 1)]


def data2vec_places(config: Config) -> list[Place]:
    return [
        *common_places(config),
        Place("num_conv_pos_embeddings", "encoder.pos_conv_embed.layers."),
        Place("conv_pos_kernel_size", "encoder.pos_conv_embed.layers.0.conv.weight", 2),
    ]
