"""Synthetic batches, which need no store: their shapes, or arrays of valid noise."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.features.grid import frames
from jepa_speech.features.spectral import DIMS
from jepa_speech.objective_parts.contract import HasTexts, Objective
from jepa_speech.settings.run_config import RunConfig

ANCHOR = {"components": 1024, "features": "logmel", "normalize": "level"}  # values if the config takes the file's
Shapes = dict[str, tuple[tuple[int, ...], Any]]  # name -> shape of one row, and type
CHARACTERS = " 'abcdefghijklmnopqrstuvwxyz"  # characters if the config takes those of the store's texts


def filled_in(config: RunConfig) -> RunConfig:
    """Returns the config with ANCHOR and CHARACTERS for values that would come from an anchor's file or a store."""
    anchor: dict[str, Any] = {key: getattr(config.anchor, key) or value for key, value in ANCHOR.items()}
    objective: Any = config.objective
    if getattr(objective, "characters", None) == "":
        objective = replace(objective, characters=CHARACTERS)
    return replace(config, anchor=replace(config.anchor, **anchor), objective=objective)


def abstract_batch(config: RunConfig, objective: Objective, rows: int, samples: int) -> dict[str, Any]:
    """Returns the shapes of a batch that batches/pipeline.py makes for the objective."""
    anchor, f32, i32 = config.anchor, jnp.float32, jnp.int32
    wave, row, labels = (samples,), (), (frames(samples), anchor.top_k)
    shapes: Shapes = {"audio": (wave, f32), "lengths": (row, i32), "level": (row, f32), "weight": (row, f32)}
    shapes |= {"record_id": (row, jnp.uint32), "epoch": (row, i32)}
    extras: dict[str, Shapes] = {
        "mix": {"mix": (wave, f32), "mix_lengths": (row, i32), "mix_level": (row, f32)},
        "context": {"context": (wave, f32), "context_lengths": (row, i32)},
        "anchor": {"anchor_ids": (labels, i32), "anchor_probs": (labels, f32)},
        "anchor_mean": {"anchor_mean": ((DIMS.get(anchor.features, 0),), f32)},
        "text": {"text_ids": ((frames(samples) // 2,), i32), "text_lengths": (row, i32)},  # 25 characters per second
    }
    for name in objective.batch_fields:
        shapes |= extras[name]
    return {name: jax.ShapeDtypeStruct((rows, *shape), kind) for name, (shape, kind) in shapes.items()}


def noise_batch(
    config: RunConfig, objective: Objective, rows: int, samples: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Returns arrays with the shapes of `abstract_batch`: white noise with RMS 1 in full crops of different records.

    Labels are `top_k` consecutive components with a total probability of 0.9. Texts have ten of the config's characters
    per second. The config must be `filled_in`.
    """
    rng, batch = np.random.default_rng(seed), {}
    for name, shape in abstract_batch(config, objective, rows, samples).items():
        if name in ("audio", "mix", "context", "anchor_mean"):
            array = rng.standard_normal(shape.shape, np.float32)
        elif name in ("level", "mix_level", "weight"):
            array = np.ones(shape.shape)
        elif name in ("lengths", "mix_lengths", "context_lengths"):
            array = np.full(shape.shape, samples)
        elif name == "anchor_ids":
            first = rng.integers(config.anchor.components, size=(*shape.shape[:-1], 1))
            array = (first + np.arange(shape.shape[-1])) % config.anchor.components
        elif name == "anchor_probs":
            array = -np.sort(-rng.uniform(0.1, 1, shape.shape), -1)
            array *= 0.9 / array.sum(-1, keepdims=True)
        elif name == "text_ids":
            assert isinstance(objective, HasTexts)
            classes = objective.vocabulary.encode("".join(objective.vocabulary.symbols))
            array = classes[rng.integers(len(classes), size=shape.shape)]
            array[:, characters_of(samples) :] = 0
        elif name == "text_lengths":
            array = np.full(shape.shape, characters_of(samples))
        elif name == "record_id":
            array = np.arange(rows)
        else:
            array = np.zeros(shape.shape)  # epoch
        batch[name] = array.astype(shape.dtype)
    return batch


def characters_of(samples: int) -> int:
    """Returns the number of characters in the text of a recording with `samples` samples: frames / 5, at least 1."""
    return max(1, frames(samples) // 5)
