"""Public checkpoints at toy size, written by the format's own library: no torch, and none of our code."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from jepa_speech.huggingface.config import checked_config
from jepa_speech.huggingface.families import FAMILIES
from jepa_speech.huggingface.names import BATCH_NORM, their_name
from jepa_speech.huggingface.parameters import encoder_shapes

TINY = {
    "model_type": "hubert",
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}


def toy_arrays(config: dict[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """An encoder's arrays by their names and in their layout, drawn at random."""
    rng, arrays, family = np.random.default_rng(0), {}, FAMILIES[config["model_type"]]
    section = family.section(checked_config(config, "config.json"))
    for path, leaf in jax.tree_util.tree_leaves_with_path(encoder_shapes(section)):
        name, shape = their_name(path, family.names), leaf.shape
        if name.endswith("original0"):
            shape = (*shape, 1, 1)
        if not name.endswith("rel_attn_embed.weight"):
            shape = shape[::-1]  # (out, in, kernel)
        arrays[prefix + name] = rng.normal(0, 0.3, shape).astype(np.float32)
    if config.get("conv_pos_batch_norm"):
        for name in ("running_mean", "running_var"):
            arrays[f"{prefix}{BATCH_NORM}{name}"] = rng.uniform(0.5, 2, section["width"]).astype(np.float32)
        arrays[f"{prefix}{BATCH_NORM}num_batches_tracked"] = np.array(7)
    return arrays


def write_shards(folder: Path, config: dict[str, Any], parts: list[dict[str, np.ndarray]]) -> Path:
    """A folder of several files, with their index."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    index = {}
    for i, arrays in enumerate(parts, 1):
        file = f"model-{i:05}-of-{len(parts):05}.safetensors"
        save_file(arrays, folder / file)
        index |= dict.fromkeys(arrays, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


def write_folder(folder: Path, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(arrays, folder / "model.safetensors")
    return folder
