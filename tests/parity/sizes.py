"""Sizes of the models that are compared: toys, and those of the papers. As transformers' configs name them."""

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

# (model type, config, seconds of each row, name in the table). Group norm over time is compared without padding.
TINY_ENCODERS = [
    ("wav2vec2", TINY, [0.5], "wav2vec 2.0, tiny Base"),
    ("wav2vec2", TINY | PRE_NORM, [0.5, 0.3], "wav2vec 2.0, tiny Large"),
    ("hubert", TINY, [0.5], "HuBERT, tiny Base"),
    ("wavlm", TINY, [0.5], "WavLM, tiny Base"),
    ("wavlm", TINY | PRE_NORM, [0.5, 0.3], "WavLM, tiny Large"),
    # Reaches the logarithmic buckets.
    ("wavlm", TINY | {"num_buckets": 16, "max_bucket_distance": 20}, [0.9], "WavLM, tiny, few buckets"),
    ("data2vec-audio", TINY | {"num_conv_pos_embeddings": 5}, [0.5], "data2vec, tiny Base"),
]
PUBLISHED_ENCODERS = [
    ("wav2vec2", {}, [2.0], "wav2vec 2.0 Base"),
    ("wav2vec2", LARGE, [2.0, 1.3], "wav2vec 2.0 Large"),
    ("hubert", {}, [2.0], "HuBERT Base"),
    ("wavlm", {}, [2.0], "WavLM Base"),
    ("data2vec-audio", {}, [2.0], "data2vec Base"),
]
