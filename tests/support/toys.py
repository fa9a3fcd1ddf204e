"""Tiny systems for tests: real objectives at toy size, on synthetic audio."""

import importlib.util
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jepa_speech import objectives
from jepa_speech.anchors.gmm import DiagonalGMM, frame_posteriors
from jepa_speech.anchors.sparse import top_k
from jepa_speech.features import grid
from jepa_speech.features.spectral import DIMS, extract
from jepa_speech.objectives import parsed
from jepa_speech.settings.run_config import RunConfig, plain
from jepa_speech.text.vocabulary import FIRST
from jepa_speech.training.configfile import config_dict

CONFIGS = Path(__file__).parents[2] / "configs"
K, TOP = 8, 4


def base_config() -> ConfigDict:
    """configs/base.py as it is."""
    spec = importlib.util.spec_from_file_location("base", CONFIGS / "base.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def toy_config(frontend: str = "logmel", name: str = "transformer", **sections: dict) -> ConfigDict:
    """The published config shrunk to a toy; `sections` override single keys, as in `mask={"span": (2, 4)}`."""
    config = base_config()
    config.encoder.update(name=name, frontend=frontend, channels=8, width=16, blocks=2, heads=2, hidden=32, kernel=5)
    config.encoder.update(dropout=0.0, dtype="float32")
    config.head.update(width=16, blocks=1, dropout=0.0)
    config.anchor.update(components=K, features="logmel", normalize="level", top_k=TOP)
    config.mask.update(span=(3, 6))
    config.mixing.update(utterance=0.0, noise=0.0)
    config.train.update(steps=100)
    for section, values in sections.items():
        config[section].update(values)
    return config


# What makes a toy of any published objective, wherever it has such a key.
SHRUNK = {
    "data": {"batch_seconds": 8.0, "buckets": (1.0,)},
    "objective": {
        "projection": 8,
        "distractors": 5,
        "top_blocks": 1,
        "contrastive_blocks": 1,
        "codes": 8,
        "components": 4,
        "reservoir": 128,
        "layer_every": 4,
        "sigreg_directions": 16,
        "masks": 2,
        "decoder_width": 16,
        "decoder_layers": 2,
        "characters": "abcdefgh",
        "freeze_steps": 0,
        "channel_span": 4,
    },
    "quantizer": {"codes": 8, "width": 8},
    "mask": {"span": (3, 3), "ratio": (0.4, 0.65)},
}


PUBLISHED = {"ctc": "finetune_ctc"}  # the config of an objective, where it has another name


def toy_objective(name: str, **sections: dict) -> ConfigDict:
    """configs/NAME.py of an objective, on a toy encoder: the one of `toy_config`, but for PASE, which has its own."""
    config, toy = config_dict(str(CONFIGS / f"{PUBLISHED.get(name, name)}.py"), []), toy_config()
    if config.encoder.name == "pase":
        config.encoder.update(maps=(6, 6, 8, 8, 8, 8, 12, 12), embedding=10)
        config.objective.update(hidden=24, decoder=(8, 8, 8), workers=("waveform", "mfcc", "lim", "spc"))
    else:
        frontend = config.encoder.get("frontend", "logmel")
        for section in ("encoder", "head", "anchor", "mixing"):
            config[section] = toy[section]
        config.encoder.blocks = 1 + ("contrastive_blocks" in config.objective)  # compiling is what takes time
        if frontend.startswith("subsampled"):
            config.encoder.update(frontend=frontend, channels=2)
    config.train.update(toy.train)
    for section, values in SHRUNK.items():
        present = {key: value for key, value in values.items() if key in config.get(section, {})}
        config.get(section, {}).update(present)
    for section, values in sections.items():
        config[section].update(values)
    return config


def typed(config: Any) -> RunConfig:
    """The config as `load_config` gives it."""
    return config if isinstance(config, RunConfig) else parsed(plain(config))


def build(config: Any, anchor: Any = None) -> Any:
    """`objectives.build` of a config that may still be a dict."""
    return objectives.build(typed(config), anchor)


def toy_anchor(features: str = "logmel", components: int = K, seed: int = 0) -> DiagonalGMM:
    """A mixture whose components lie among the features of the toy audio."""
    rng = np.random.default_rng(seed)
    x = np.asarray(extract(features, jnp.asarray(toy_audio(4, 16_000, seed=9)))).reshape(-1, DIMS[features])
    scale = x.std(0) + 1e-3
    means = (x[rng.choice(len(x), components, replace=False)] - x.mean(0)) / scale
    return DiagonalGMM(
        means=means.astype(np.float32),
        variances=rng.uniform(20, 40, means.shape).astype(np.float32),  # wide, so that posteriors are soft
        weights=np.full(components, 1 / components, np.float32),
        shift=x.mean(0).astype(np.float32),
        scale=scale.astype(np.float32),
        features=features,
    )


def toy_audio(rows: int, samples: int, seed: int = 0) -> np.ndarray:
    """Coloured noise under a slow envelope with changing tones: (rows, samples) float32, level about 0.1."""
    rng = np.random.default_rng(seed)
    wave = np.empty((rows, samples), np.float32)
    for row in range(rows):
        pitch = np.repeat(rng.uniform(100, 3000, samples // 1600 + 1), 1600)[:samples]
        loud = np.repeat(rng.uniform(0.05, 1, samples // 1600 + 1), 1600)[:samples]
        wave[row] = 0.1 * loud * np.sin(2 * np.pi * np.cumsum(pitch) / grid.SAMPLE_RATE)
        wave[row] += 0.02 * rng.normal(size=samples)
    return wave


def toy_batch(
    rows: int = 4, seconds: float = 1.0, seed: int = 0, anchor: DiagonalGMM | None = None, full: bool = False
) -> dict[str, jax.Array]:
    """A batch of the data contract; rows of different lengths unless `full`."""
    samples = grid.samples(round(seconds * grid.FRAME_RATE))
    audio = toy_audio(rows, samples, seed)
    lengths = np.full(rows, samples) if full else np.linspace(samples, 0.6 * samples, rows).astype(int)
    audio *= np.arange(samples) < lengths[:, None]
    level = np.sqrt(np.square(audio).sum(1) / lengths)
    batch = {
        "audio": audio,
        "lengths": lengths.astype(np.int32),
        "record_id": np.arange(rows, dtype=np.uint32) + 10 * seed,
        "epoch": np.zeros(rows, np.int32),
        "level": level.astype(np.float32),
        "weight": np.ones(rows, np.float32),
    }
    batch = {name: jnp.asarray(value) for name, value in batch.items()}
    if anchor is not None:
        clean = batch["audio"] / batch["level"][:, None]
        dense = frame_posteriors(anchor.arrays(), anchor.features, clean, lengths=batch["lengths"])
        batch["anchor_ids"], batch["anchor_probs"] = top_k(dense, TOP)
    return batch


def with_others(batch: dict[str, jax.Array], seed: int = 1) -> dict[str, jax.Array]:
    """The batch with another crop of each recording (`context`) and a crop of another one (`mix`)."""
    rows, samples = batch["audio"].shape
    other = toy_audio(rows, samples, seed)
    inside = jnp.arange(samples) < batch["lengths"][:, None]
    return batch | {
        "context": jnp.roll(batch["audio"], 2000, axis=1) * inside,
        "context_lengths": batch["lengths"],
        "mix": jnp.asarray(other) * inside,
        "mix_lengths": batch["lengths"],
        "mix_level": jnp.asarray(np.sqrt(np.square(other).mean(1))),
    }


def with_text(batch: dict[str, jax.Array], seed: int = 2) -> dict[str, jax.Array]:
    """The batch with texts of one to six of eight characters."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 7, len(batch["audio"])).astype(np.int32)
    ids = rng.integers(FIRST, FIRST + 8, (len(lengths), 6)).astype(np.int32) * (np.arange(6) < lengths[:, None])
    return batch | {"text_ids": jnp.asarray(ids), "text_lengths": jnp.asarray(lengths)}
