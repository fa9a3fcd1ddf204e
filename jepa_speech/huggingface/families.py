"""The model types of transformers that can be read, and our own: one entry of `FAMILIES` each.

An entry has the class, the config keys, how they make config section `encoder`, and the names of the arrays.
`config.py` checks a config by its entry, `parameters.py` reads arrays by it, and `export_folder.py` writes by it.
"""

from typing import Any

from jepa_speech.features.kaldi import BANDS
from jepa_speech.huggingface.conformers import (
    BERT_KEYS,
    BERT_NAMES,
    BERT_ONLY,
    CONFORMER_KEYS,
    CONFORMER_NAMES,
    CONFORMER_ONLY,
    UNUSED,
    bert_section,
    block_places,
    conformer_places,
    conformer_section,
)
from jepa_speech.huggingface.conformers import MULTIPLES as CONFORMER_MULTIPLES
from jepa_speech.huggingface.family import Config, Family, Keys, Multiple, Place, taken
from jepa_speech.huggingface.wav2vec2 import (
    ADAPTER,
    BATCH_NORM_KEY,
    BLOCK_ADAPTERS,
    CODES,
    CONV_KEYS,
    HUBERT_KEYS,
    KEYS,
    PUBLISHED,
    WAVLM_KEYS,
    adapter_places,
    conv_section,
    data2vec_places,
    data2vec_section,
    hubert_section,
    wavlm_places,
    wavlm_section,
)

OWN = "jepa_speech"  # the model type of our own encoder
OWN_KEYS: Keys = (
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
# Heads of Wav2Vec2ForPreTraining that the objective `wav2vec2` has too, and their paths in it.
WAV2VEC2_HEADS = {
    "quantizer.weight_proj.weight": ("quantizer", "logits", "kernel"),
    "quantizer.weight_proj.bias": ("quantizer", "logits", "bias"),
    "quantizer.codevectors": ("quantizer", "vectors"),
    "project_q.weight": ("project_q", "kernel"),
    "project_q.bias": ("project_q", "bias"),
    "project_hid.weight": ("final_proj", "kernel"),
    "project_hid.bias": ("final_proj", "bias"),
}


def own_section(config: Config) -> dict[str, Any]:
    return taken(config, OWN_KEYS) | {"dtype": "float32"}


def own_places(config: Config) -> list[Place]:
    conformer = config["block_type"] == "conformer"
    return [
        Place("num_hidden_layers", "blocks."),
        Place("hidden_size", "projection.weight", 0),
        *([Place("conv_channels", "projection.weight", 1)] if config["frontend"] == "conv" else []),
        Place("intermediate_size", f"blocks.0.{'ff1' if conformer else 'ff'}.up.weight", 0),
        Place("kernel_size", "blocks.0.convolution.taps" if conformer else "local.taps", 0),
    ]


MULTIPLES = (Multiple("hidden_size", "num_attention_heads"), Multiple("hidden_size", "num_conv_pos_embedding_groups"))
WAV2VEC2 = Family(
    "Wav2Vec2Model",
    "wav2vec2.",
    "wav2vec2",
    CONV_KEYS,
    CODES,
    PUBLISHED | ADAPTER,
    conv_section,
    adapter_places,
    MULTIPLES,
    heads=WAV2VEC2_HEADS,
    nullable=(BLOCK_ADAPTERS,),
)
FAMILIES: dict[str, Family] = {
    "wav2vec2": WAV2VEC2,
    "hubert": WAV2VEC2._replace(
        architecture="HubertModel",
        prefix="hubert.",
        objective="hubert",
        keys=CONV_KEYS + HUBERT_KEYS,
        more={BATCH_NORM_KEY: False},
        only=PUBLISHED,
        section=hubert_section,
        heads={},
    ),
    "wavlm": WAV2VEC2._replace(
        architecture="WavLMModel",
        prefix="wavlm.",
        objective="hubert",
        keys=CONV_KEYS + WAVLM_KEYS,
        more={},
        only=PUBLISHED | ADAPTER,
        section=wavlm_section,
        places=wavlm_places,
        heads={},
        nullable=(),
    ),
    "unispeech": WAV2VEC2._replace(architecture="UniSpeechModel", prefix="unispeech.", only=PUBLISHED, heads={}),
    "unispeech-sat": WAV2VEC2._replace(
        architecture="UniSpeechSatModel",
        prefix="unispeech_sat.",
        objective="hubert",
        more={},
        only=PUBLISHED,
        heads={},
    ),
    "data2vec-audio": WAV2VEC2._replace(
        architecture="Data2VecAudioModel",
        prefix="data2vec_audio.",
        objective="data2vec",
        keys=KEYS,
        more={"num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19},
        only=PUBLISHED | ADAPTER,
        section=data2vec_section,
        places=data2vec_places,
        heads={},
        nullable=(),
    ),
    "wav2vec2-conformer": Family(
        "Wav2Vec2ConformerModel",
        "wav2vec2_conformer.",
        "wav2vec2",
        CONFORMER_KEYS,
        CODES,
        CONFORMER_ONLY,
        conformer_section,
        conformer_places,
        CONFORMER_MULTIPLES,
        CONFORMER_NAMES,
        WAV2VEC2_HEADS,
        unused=(UNUSED,),
    ),
    "wav2vec2-bert": Family(
        "Wav2Vec2BertModel",
        "wav2vec2_bert.",
        "w2v_bert",
        BERT_KEYS,
        {},
        BERT_ONLY,
        bert_section,
        block_places,
        CONFORMER_MULTIPLES,
        BERT_NAMES,
        extractor={"num_mel_bins": BANDS, "stride": 2},
    ),
    OWN: Family(
        "JepaSpeechModel",
        "",
        "gmm_jepa",
        OWN_KEYS,
        {"masked_embedding": True},
        {},
        own_section,
        own_places,
        (Multiple("hidden_size", "num_attention_heads", 2),),  # rotary positions take pairs of channels
        names=(),
    ),
}
