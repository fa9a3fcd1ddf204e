"""Published models by name, as docs/import.md lists them: keys of their config.json that decide what is computed.

Sizes are reduced. All other values are the published ones as far as known: no file of these models was downloaded.
"""

from typing import Any

REDUCED = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 42,
    "conv_dim": [14] * 7,
}
SHARED = {
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "layer_norm_eps": 1e-5,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
    "num_feat_extract_layers": 7,
    "gradient_checkpointing": False,  # of older versions, as is feat_extract_dropout
    "feat_extract_dropout": 0.0,
}
GROUP = SHARED | {"feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False}
LAYER = SHARED | {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
WAVLM = {"num_buckets": 320, "max_bucket_distance": 800, "replace_prob": 0.5, "add_adapter": False}
DATA2VEC = SHARED | {"feat_extract_norm": "layer", "conv_bias": False, "add_adapter": False}
DATA2VEC |= {"num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19}


def named(names: str, *parts: dict[str, Any], **more: Any) -> dict[str, dict[str, Any]]:
    """The same config for several names."""
    return {name: {key: value for part in (*parts, more) for key, value in part.items()} for name in names.split()}


PUBLISHED: dict[str, dict[str, Any]] = {
    **named(
        "facebook/wav2vec2-base facebook/wav2vec2-base-100h facebook/wav2vec2-base-960h facebook/wav2vec2-large "
        "facebook/wav2vec2-large-960h",
        GROUP,
        model_type="wav2vec2",
    ),
    **named(
        "facebook/wav2vec2-large-lv60 facebook/wav2vec2-large-960h-lv60-self facebook/wav2vec2-large-robust "
        "facebook/wav2vec2-large-xlsr-53 facebook/wav2vec2-xls-r-300m facebook/wav2vec2-xls-r-1b "
        "facebook/wav2vec2-xls-r-2b facebook/mms-300m facebook/mms-1b",
        LAYER,
        model_type="wav2vec2",
    ),
    **named(
        "facebook/mms-1b-all facebook/mms-1b-fl102 facebook/mms-1b-l1107",
        LAYER,
        model_type="wav2vec2",
        adapter_attn_dim=16,
    ),
    **named("facebook/hubert-base-ls960 utter-project/mHuBERT-147", GROUP, model_type="hubert"),
    **named(
        "facebook/hubert-large-ll60k facebook/hubert-large-ls960-ft facebook/hubert-xlarge-ll60k",
        LAYER,
        model_type="hubert",
    ),
    **named("ntu-spml/distilhubert", GROUP, model_type="hubert", feat_proj_layer_norm=False),
    **named("microsoft/wavlm-base microsoft/wavlm-base-plus", GROUP, WAVLM, model_type="wavlm"),
    **named("microsoft/wavlm-large", LAYER, WAVLM, model_type="wavlm", conv_bias=False),
    **named("microsoft/unispeech-sat-base microsoft/unispeech-sat-base-plus", GROUP, model_type="unispeech-sat"),
    **named("microsoft/unispeech-sat-large", LAYER, model_type="unispeech-sat", conv_bias=False),
    **named("microsoft/unispeech-large-1500h-cv", LAYER, model_type="unispeech"),
    **named(
        "facebook/data2vec-audio-base facebook/data2vec-audio-base-960h facebook/data2vec-audio-large "
        "facebook/data2vec-audio-large-960h",
        DATA2VEC,
        model_type="data2vec-audio",
    ),
}
# Those that nn/conformer_encoders.py computes: compared in tests/parity/test_conformers.py.
CONFORMER = LAYER | {"hidden_act": "swish", "conv_depthwise_kernel_size": 31, "add_adapter": False}
CONFORMERS: dict[str, dict[str, Any]] = {
    "facebook/wav2vec2-conformer-rel-pos-large": {
        **CONFORMER,
        "model_type": "wav2vec2-conformer",
        "position_embeddings_type": "relative",
    },
    "facebook/wav2vec2-conformer-rope-large": {
        **CONFORMER,
        "model_type": "wav2vec2-conformer",
        "position_embeddings_type": "rotary",
        "rotary_embedding_base": 10_000,
    },
    "facebook/w2v-bert-2.0": {
        "model_type": "wav2vec2-bert",
        "hidden_act": "swish",
        "layer_norm_eps": 1e-5,
        "conv_depthwise_kernel_size": 31,
        "feature_projection_input_dim": 160,
        "position_embeddings_type": "relative_key",
        "left_max_position_embeddings": 64,
        "right_max_position_embeddings": 8,
        "add_adapter": False,
        "use_intermediate_ffn_before_adapter": False,
    },
}
# The key that says why, and the config.
UNSUPPORTED: dict[str, tuple[str, dict[str, Any]]] = {
    "slprl/mhubert-base-25hz": (
        "conv_kernel",
        {
            **GROUP,
            "model_type": "hubert",
            "conv_pos_batch_norm": True,
            "conv_dim": [512] * 8,
            "conv_kernel": [10, 3, 3, 3, 3, 2, 2, 2],
            "conv_stride": [5, 2, 2, 2, 2, 2, 2, 2],
        },
    ),
    "asapp/sew-tiny-100k": ("model_type", {"model_type": "sew", "squeeze_factor": 2}),
}
