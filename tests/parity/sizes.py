"""Sizes of the models that are compared: toys, and those of the papers. As transformers' configs name them."""

from typing import Any

from support.public_models import PUBLISHED, REDUCED

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
PRE_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}  # how Large is wired
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096} | PRE_NORM
TINY_CODES = {"num_codevectors_per_group": 6, "codevector_dim": 10, "proj_codevector_dim": 12, "num_negatives": 7}


def wirings() -> list[tuple[str, dict[str, Any], list[float], str]]:
    found: dict[str, tuple[str, dict[str, Any], list[float], str]] = {}
    for name, config in PUBLISHED.items():
        padded = config["feat_extract_norm"] == "layer" and config["model_type"] != "data2vec-audio"
        theirs = {key: value for key, value in config.items() if key != "model_type"} | REDUCED
        found.setdefault(str(config), (config["model_type"], theirs, [0.3, 0.2] if padded else [0.3], name))
    return list(found.values())


FEW = {"num_buckets": 16, "max_bucket_distance": 20}
# What no published model has: odd kernels and groups, another epsilon, a batch norm at 50 frames a second.
ODD = {"num_conv_pos_embeddings": 7, "num_conv_pos_embedding_groups": 3, "layer_norm_eps": 1e-2}

# (model type, config, seconds of each row, name in the table): each wiring of a published model once, and others. Group
# norm over time is compared without padding, and so are positions that padding reaches.
TINY_ENCODERS = [
    *wirings(),
    ("wavlm", REDUCED | FEW, [0.9], "WavLM, tiny, few buckets"),  # reaches the logarithmic buckets
    ("hubert", REDUCED | ODD | {"conv_pos_batch_norm": True}, [0.3], "HuBERT, tiny, with batch norm"),
    ("unispeech-sat", REDUCED | PRE_NORM | ODD, [0.3, 0.2], "UniSpeech-SAT, tiny, odd"),
]
PUBLISHED_ENCODERS = [
    ("wav2vec2", {}, [2.0], "wav2vec 2.0 Base"),
    ("wav2vec2", LARGE, [2.0, 1.3], "wav2vec 2.0 Large"),
    ("hubert", {}, [2.0], "HuBERT Base"),
    ("wavlm", {}, [2.0], "WavLM Base"),
    ("data2vec-audio", {}, [2.0], "data2vec Base"),
]
