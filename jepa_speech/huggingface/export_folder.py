"""Write an encoder as a folder that transformers loads.

Encoders that transformers has are written for its classes (the inverse of `parameters.py`). That of `nn/encoder.py` is
written with its torch code (`own_encoder.py`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.config import from_section
from jepa_speech.errors import UserError
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.features.kaldi import BANDS
from jepa_speech.files import as_json, write_text
from jepa_speech.huggingface import conformers as their_conformers
from jepa_speech.huggingface import own_encoder
from jepa_speech.huggingface.families import FAMILIES, OWN, own_section
from jepa_speech.huggingface.names import AXES, BATCH_NORM, their_name, turned
from jepa_speech.huggingface.safetensors import write_safetensors
from jepa_speech.huggingface.wav2vec2 import BATCH_NORM_KEY, BLOCK_ADAPTERS, PUBLISHED
from jepa_speech.nn.batch_norm import EPSILON
from jepa_speech.nn.conformer_encoders import Wav2Vec2ConformerConfig
from jepa_speech.nn.conv_stack import CONVOLUTIONS
from jepa_speech.nn.encoder import EncoderConfig
from jepa_speech.nn.module import Params
from jepa_speech.nn.wav2vec2 import Wav2Vec2Config
from jepa_speech.ownership import refuse_existing
from jepa_speech.settings.run_config import RunConfig

CONFORMERS = {"wav2vec2_conformer": "wav2vec2-conformer", "wav2vec2_bert": "wav2vec2-bert"}


class Exported(NamedTuple):
    """config: the contents of config.json. arrays: in transformers' names and layout, float32 or `in_bfloat16`.
    tokenizer: name -> text of the tokenizer files of a CTC layer, None without one. normalised: whether it takes waves
    at mean 0 and deviation 1.
    """

    config: dict[str, Any]
    arrays: dict[str, np.ndarray]
    tokenizer: dict[str, str] | None = None
    normalised: bool = True

    @property
    def rounded(self) -> bool:
        """Whether weights are in bfloat16."""
        return any(array.dtype == jnp.bfloat16 for array in self.arrays.values())


def to_huggingface(config: RunConfig, encoder: Params) -> Exported:
    """Returns the encoder of a run, from its config and the encoder's parameters.

    Raises UserError where neither transformers nor the torch code here has such an architecture.
    """
    section = config.encoder
    if isinstance(section, EncoderConfig):
        return Exported(*own_encoder.to_torch(section, encoder))
    kind = model_type(config)
    arrays = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(encoder):
        name = their_name(path, FAMILIES[kind].names)
        array = turned(name, np.asarray(leaf, np.float32))
        axes = next((axes for end, axes in AXES.items() if name.endswith(end)), ())
        arrays[name] = np.expand_dims(array, axes)
    if section.positions == "scaled":
        arrays |= statistics(section.width)
    if isinstance(section, Wav2Vec2ConformerConfig):
        arrays |= their_conformers.unread(section)
    theirs = their_config(kind, section)
    if "masked_spec_embed" not in arrays:  # mask.fill = random: there is no embedding to mask with
        theirs["mask_time_prob"] = 0.0
    return Exported(theirs, arrays, normalised=getattr(section, "level", "unit") == "unit")


def in_bfloat16(exported: Exported) -> Exported:
    """Returns it with the weights of two or more axes in bfloat16, in half of the space.

    Vectors and constants stay in float32, and so does the arithmetic: rotary frequencies in bfloat16 would turn the
    frames of a long recording by other angles.
    """
    kept: Mapping[str, np.ndarray] = {}
    if own(exported.config):
        kept = own_encoder.constants(from_section(EncoderConfig, own_section(exported.config), "encoder"))
    arrays = {
        name: array if array.ndim < 2 or name in kept else array.astype(jnp.bfloat16)
        for name, array in exported.arrays.items()
    }
    return exported._replace(arrays=arrays)


def statistics(width: int) -> dict[str, np.ndarray]:
    """Returns running statistics that leave a batch norm's weight and bias as they are: variance + epsilon is 1."""
    return {
        f"{BATCH_NORM}running_mean": np.zeros(width, np.float32),
        f"{BATCH_NORM}running_var": np.full(width, 1 - EPSILON, np.float32),
        f"{BATCH_NORM}num_batches_tracked": np.zeros((), np.int64),
    }


def model_type(config: RunConfig) -> str:
    """Returns the model type of an encoder: by its architecture, or by its objective if two types have the same one.

    Raises UserError for an architecture that transformers does not have.
    """
    encoder, name = config.encoder, config.encoder.name
    if name in CONFORMERS:
        return CONFORMERS[name]
    works = (
        "use `jepa-speech export stablehlo` or `jepa-speech embed`, or train with encoder.name = wav2vec2 and "
        "encoder.frontend = conv, or with encoder.name = wav2vec2_conformer, wav2vec2_bert, conformer or transformer"
    )
    if name != "wav2vec2":
        raise UserError(f"encoder.name = {name}: transformers has no such architecture; {works}")
    if encoder.frontend != "conv":
        raise UserError(f"encoder.frontend = {encoder.frontend}: transformers has no such architecture; {works}")
    if encoder.alibi:
        raise UserError(f"encoder.alibi = True: transformers has no such architecture; {works}")
    if encoder.positions == "stacked":
        only = {"norm": "layer", "pre_norm": False, "relative_bias": False, "feature_norm": True, "adapter": 0}
        check_only(encoder, only, "data2vec", "encoder.positions = stacked")
        return "data2vec-audio"
    if encoder.relative_bias:
        only = {"positions": "conv", "feature_norm": True, "adapter": 0}
        check_only(encoder, only, "WavLM", "encoder.relative_bias = True")
        return "wavlm"
    if encoder.adapter:
        check_only(encoder, {"pre_norm": True}, "Wav2Vec2", f"encoder.adapter = {encoder.adapter}")
    trained = config.imported.model_type if config.imported else config.objective.name
    hubert = encoder.positions == "scaled" or not encoder.feature_norm or trained == "hubert"
    return "hubert" if hubert else "wav2vec2"


def check_only(encoder: Wav2Vec2Config, only: Mapping[str, Any], model: str, given: str) -> None:
    """Raises UserError if the encoder has a value that a model of transformers does not have.

    given: the config keys that make it that model.
    """
    for key, value in only.items():
        if (found := getattr(encoder, key)) != value:
            raise UserError(
                f"encoder.{key} = {found} with {given}: transformers has no such architecture; its {model} has "
                f"encoder.{key} = {value}"
            )


def their_config(kind: str, encoder: Any) -> dict[str, Any]:
    """Returns transformers' config.json for a config section `encoder` of model type `kind`."""
    theirs: dict[str, Any] = {"architectures": [FAMILIES[kind].architecture], "model_type": kind, "dtype": "float32"}
    theirs |= {name: getattr(encoder, ours) for ours, name, _ in FAMILIES[kind].keys}
    if kind == "wav2vec2-conformer":
        return theirs | their_conformers.conformer_config(encoder)
    if kind == "wav2vec2-bert":
        return theirs | their_conformers.bert_config(encoder)
    theirs |= {
        **{key: only.values[0] for key, only in PUBLISHED.items() if only.values[0] is not None},
        "conv_dim": [encoder.channels] * len(CONVOLUTIONS),
        "num_feat_extract_layers": len(CONVOLUTIONS),
    }
    if encoder.adapter:
        theirs[BLOCK_ADAPTERS] = encoder.adapter
    if kind == "hubert":
        theirs[BATCH_NORM_KEY] = encoder.positions == "scaled"
    if kind == "data2vec-audio":
        size = max(3, encoder.position_kernel // encoder.position_depth)  # as nn/conv_positions.py has it
        theirs |= {"num_conv_pos_embeddings": encoder.position_depth, "conv_pos_kernel_size": size}
    return theirs


def own(theirs: Mapping[str, Any]) -> bool:
    """Returns whether our own torch code loads it, not a class of transformers."""
    return theirs["model_type"] == OWN


def takes_padding(theirs: Mapping[str, Any]) -> bool:
    """Returns whether padding does not change other frames in transformers' model.

    It does in a front-end that normalises over time, in a batch norm, which shifts padding away from zero, and in the
    convolutions of Wav2Vec2-Conformer's blocks.
    """
    if theirs["model_type"] == "wav2vec2-conformer":
        return False
    return theirs.get("feat_extract_norm", "layer") == "layer" and not theirs.get(BATCH_NORM_KEY)


def preprocessor(theirs: Mapping[str, Any], normalised: bool = True) -> dict[str, Any]:
    """Returns preprocessor_config.json: 16 kHz; each recording is scaled to mean 0 and deviation 1 if `normalised`, for
    w2v-BERT each band of its filter bank.

    Our own model scales waves itself, because the extractor's result is 5% off at a level of 0.001.
    """
    if theirs["model_type"] == "wav2vec2-bert":
        return {
            "feature_extractor_type": "SeamlessM4TFeatureExtractor",
            "feature_size": BANDS,
            "num_mel_bins": BANDS,
            "padding_side": "right",
            "padding_value": 0.0,
            "return_attention_mask": True,
            "sampling_rate": SAMPLE_RATE,
            "stride": 2,
        }
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "do_normalize": normalised and not own(theirs),
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": takes_padding(theirs),
        "sampling_rate": SAMPLE_RATE,
    }


def write_folder(folder: str | Path, exported: Exported, card: str) -> list[str]:
    """Writes the folder, config.json last, so that an unfinished folder is not a model. Returns the files' names.

    Raises UserError if it holds a file of one of these names already, or cannot be written.
    """
    folder = Path(folder)
    files = {"preprocessor_config.json": as_json(preprocessor(exported.config, exported.normalised)), "README.md": card}
    files |= exported.tokenizer or {}
    if own(exported.config):
        files |= {f"{own_encoder.MODULE}.py": Path(__file__).with_name(f"{own_encoder.MODULE}.py").read_text("utf-8")}
    files |= {"config.json": as_json(exported.config)}
    refuse_existing(folder, ["config.json", "model.safetensors", *files])
    try:
        write_safetensors(folder / "model.safetensors", exported.arrays, {"format": "pt"})
        for name, text in files.items():
            write_text(folder / name, text)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error
    return ["model.safetensors", *files]
