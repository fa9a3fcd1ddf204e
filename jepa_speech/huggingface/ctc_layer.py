"""Convert the CTC layer of a model of transformers (Wav2Vec2ForCTC and others) to the objective `ctc` and back."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.huggingface import bert_adapter, own_encoder
from jepa_speech.huggingface.export_folder import Exported, own
from jepa_speech.huggingface.families import FAMILIES
from jepa_speech.huggingface.names import turned
from jepa_speech.huggingface.parameters import fitted
from jepa_speech.huggingface.tokenizer import read_tokens, tokenizer_files
from jepa_speech.nn.module import Params
from jepa_speech.objectives.ctc import CtcConfig
from jepa_speech.text.tokens import Tokens

WEIGHT, BIAS = "lm_head.weight", "lm_head.bias"
OWN_PREFIX = "jepa_speech."  # of the encoder's names in our own model with a CTC layer


class CtcLayer(NamedTuple):
    """head: parameters of the linear layer. tokens: of its classes. adapter: parameters of the adapter between encoder
    and layer, and its keys in config section `objective`; None without one.
    """

    head: Params
    tokens: Tokens
    adapter: tuple[Params, CtcConfig] | None = None


def read_ctc(folder: str | Path, arrays: Mapping[str, np.ndarray], width: int, language: str = "") -> CtcLayer:
    """Returns the CTC layer among the arrays of a folder. A missing bias is 0.

    width: of the encoder. language: as in `read_tokens`.
    Raises UserError for arrays of other shapes, and as `read_tokens` does.
    """
    weight, where = arrays[WEIGHT], str(Path(folder) / "config.json")
    classes = len(weight) if weight.ndim == 2 else 0
    if weight.shape != (classes, width) or not classes:
        raise UserError(f"{folder}: {WEIGHT} has shape {weight.shape}, and the encoder's width is {width}: damaged")
    kernel = fitted(WEIGHT, weight, where, (width, classes))
    bias = fitted(BIAS, arrays[BIAS], where, (classes,)) if BIAS in arrays else jnp.zeros(classes)
    return CtcLayer({"kernel": kernel, "bias": bias}, read_tokens(folder, classes, language))


def ctc_sections(layer: CtcLayer, width: int) -> dict[str, Any]:
    """Returns the config sections of a run that continues with the layer."""
    objective = {"name": "ctc", "freeze_steps": 0, "channel_span": max(1, width // 12)}
    if layer.adapter is not None:
        objective |= bert_adapter.section(layer.adapter[1])
    return {"objective": objective, "vocabulary": asdict(layer.tokens) | {"tokens": list(layer.tokens.tokens)}}


def with_ctc(encoder: Exported, layer: CtcLayer) -> Exported:
    """Returns an exported encoder with the CTC layer and its tokenizer, for the ForCTC class of its model type."""
    kind = encoder.config["model_type"]
    name = f"{FAMILIES[kind].architecture.removesuffix('Model')}ForCTC"
    prefix = FAMILIES[kind].prefix or OWN_PREFIX
    config = encoder.config | {
        "architectures": [name],
        "vocab_size": len(layer.tokens),
        "pad_token_id": layer.tokens.blank,
        "bos_token_id": None,
        "eos_token_id": None,
        "final_dropout": 0.0,
        "ctc_loss_reduction": "mean",
        "ctc_zero_infinity": True,
    }
    if own(config):
        config["auto_map"] = config["auto_map"] | {"AutoModelForCTC": f"{own_encoder.MODULE}.{name}"}
    arrays = {prefix + path: array for path, array in encoder.arrays.items()}
    arrays |= {WEIGHT: turned(WEIGHT, np.asarray(layer.head["kernel"], np.float32))}
    arrays |= {BIAS: np.asarray(layer.head["bias"], np.float32)}
    if layer.adapter is not None:
        adapter, keys = layer.adapter
        config |= bert_adapter.their_config(keys)
        arrays |= {prefix + name: array for name, array in bert_adapter.their_arrays(adapter).items()}
    return encoder._replace(config=config, arrays=arrays, tokenizer=tokenizer_files(layer.tokens))
