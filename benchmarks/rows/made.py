"""Systems and batches that need no recordings: synthetic audio, synthetic anchors, a config's own step."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import soundfile

from jepa_speech.anchors.gmm import DiagonalGMM, frame_posteriors
from jepa_speech.anchors.sparse import top_k
from jepa_speech.features import grid
from jepa_speech.features.spectral import DIMS, extract
from jepa_speech.objectives import build
from jepa_speech.training.compiled import Cost, compile_step
from jepa_speech.training.configfile import load_config
from jepa_speech.training.loop import TrainConfig
from jepa_speech.training.optim import learning_rate, make_optimizer
from jepa_speech.training.state import make_state
from jepa_speech.training.step import make_step

CONFIGS = Path(__file__).parents[2] / "configs"


def waves(rows: int, samples: int, seed: int = 0) -> np.ndarray:
    """Tones that change every tenth of a second, louder and softer, in some noise: (rows, samples) float32, mean 0."""
    random = np.random.default_rng(seed)
    parts = samples // 1600 + 1
    pitch = np.repeat(random.uniform(100, 3000, (rows, parts)), 1600, axis=1)[:, :samples]
    loud = np.repeat(random.uniform(0.05, 0.3, (rows, parts)), 1600, axis=1)[:, :samples]
    wave = loud * np.sin(2 * np.pi * np.cumsum(pitch, axis=1) / grid.SAMPLE_RATE)
    wave += 0.02 * random.standard_normal(wave.shape)
    # Mean 0: an objective takes waves as they are, an exported encoder takes their mean off first.
    return (wave - wave.mean(1, keepdims=True)).astype(np.float32)


def recordings(folder: Path, count: int, seconds: tuple[float, float], seed: int = 0) -> Path:
    """WAV files of `seconds` from, to."""
    folder.mkdir(parents=True)
    lengths = np.random.default_rng(seed).uniform(*seconds, count)
    for i, length in enumerate(lengths):
        wave = waves(1, round(length * grid.SAMPLE_RATE), seed + i)[0]
        soundfile.write(folder / f"{i:04d}.wav", wave, grid.SAMPLE_RATE, subtype="PCM_16")
    return folder


def anchor(components: int, features: str = "logmel", seed: int = 0) -> DiagonalGMM:
    """A mixture whose means are frames of made audio, wide enough for soft posteriors."""
    random = np.random.default_rng(seed)
    x = np.asarray(extract(features, waves(4, 320 * components + 16_000, seed + 1))).reshape(-1, DIMS[features])
    scale = x.std(0) + 1e-3
    means = (x[random.choice(len(x), components, replace=False)] - x.mean(0)) / scale
    return DiagonalGMM(
        means=means.astype(np.float32),
        variances=random.uniform(2, 4, means.shape).astype(np.float32),
        weights=np.full(components, 1 / components, np.float32),
        shift=x.mean(0).astype(np.float32),
        scale=scale.astype(np.float32),
        features=features,
    )


def config_of(name: str, *overrides: str, components: int = 256) -> Any:
    """`smoke.py:hubert`, say, with an anchor of log-mel; without mixing, so that a batch needs no second recording."""
    anchor = [f"anchor.components={components}", "anchor.features=logmel", "anchor.normalize=level"]
    return load_config(f"{CONFIGS}/{name}", [*overrides, *anchor, "mixing.utterance=0", "mixing.noise=0"])


def batch(config: Any, rows: int, seconds: float, mixture: DiagonalGMM, seed: int = 0) -> dict[str, jax.Array]:
    """Whole crops, with the labels of `mixture` as a store holds them."""
    samples = grid.samples(round(seconds * grid.FRAME_RATE))
    audio = waves(rows, samples, seed)
    level = np.sqrt(np.square(audio).mean(1)).astype(np.float32)
    dense = jax.jit(frame_posteriors, static_argnums=1)(mixture.arrays(), mixture.features, audio / level[:, None])
    ids, probs = top_k(dense, config.anchor.top_k)
    made = {
        "audio": audio,
        "lengths": np.full(rows, samples, np.int32),
        "record_id": np.arange(rows, dtype=np.uint32),
        "epoch": np.zeros(rows, np.int32),
        "level": level,
        "weight": np.ones(rows, np.float32),
        "anchor_ids": np.asarray(ids, np.int32),
        "anchor_probs": np.asarray(probs, np.float32),
    }
    return {name: jax.numpy.asarray(array) for name, array in made.items()}


class Stepper:
    """The train step of a config as the loop runs it: compiled ahead, the state donated, the report when it is due."""

    def __init__(self, config: Any, given: dict[str, jax.Array], mixture: DiagonalGMM):
        self.objective = build(config, mixture)
        self.batch = given
        optimizer, rate = make_optimizer(config.optim), learning_rate(config.optim, config.train.steps)
        # As earlier commits have it, too, which `check.py` measures by this code.
        due = TrainConfig(report_every=config.train.report_every, steps=config.train.steps).report_due
        step = jax.jit(make_step(self.objective, optimizer, rate, due), donate_argnums=0)
        self.state = jax.jit(lambda: make_state(self.objective, optimizer, config.seed))()
        self.compiled, self.cost = self._compile(step)
        self.metrics: Any = None

    def _compile(self, step: Any) -> tuple[jax.stages.Compiled, Cost]:
        return compile_step(step, self.state, self.batch)

    def run(self, steps: int = 1) -> None:
        for _ in range(steps):
            self.state, self.metrics = self.compiled(self.state, self.batch)
        jax.block_until_ready((self.state, self.metrics))
