"""A trained encoder, ready to use: a run folder, or one of transformers, is all it needs, neither the training data nor
the config file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import soxr

from jepa_speech.errors import UsageError, UserError
from jepa_speech.export.imported import imported_model
from jepa_speech.features.grid import HOP, SAMPLE_RATE, samples
from jepa_speech.files import read_json
from jepa_speech.objectives import build
from jepa_speech.objectives.contract import Objective, Tree
from jepa_speech.text.vocabulary import normal
from jepa_speech.train.checkpoint import load_weights

# Waves are padded with silence to one of these lengths, so that few shapes are compiled. Padding changes nothing
# (a property that tests hold), and the longest is the longest that is taken whole.
PADDED_SECONDS = (1, 2, 4, 8, 16, 30, 60)
OVERLAP_SECONDS = 10  # of the windows that a longer wave is cut into; each keeps its frames up to half of it


@dataclass(frozen=True)
class Representation:
    """layers: one (T, D) float32 array per layer, the first is the input of the first block."""

    layers: list[np.ndarray]
    frame_rate: float


@dataclass(frozen=True)
class Pretrained:
    """An objective with its parameters. `config` is the resolved config of the run, `step` its last checkpoint's; of a
    folder of transformers it is the config that a run of it would have, and step 0.
    """

    config: Mapping[str, Any]
    objective: Objective
    params: Tree
    slow: Tree
    step: int

    @property
    def has_clusters(self) -> bool:
        """Whether a cluster head was trained: not without an anchor, nor where the encoder alone was imported."""
        return "head" in self.params and hasattr(self.objective, "clusters") and "imported" not in self.config

    def represent(self, wave: np.ndarray, sample_rate: int) -> Representation:
        """The layers of one recording of any level, (S,) samples.

        Up to 60 s it is taken whole; a longer one in windows of 60 s that overlap by 10 s, each standardised by
        itself, of which the frames nearest to a window's middle are kept. Raises UserError for a wave that is
        shorter than the system's shortest input, not one-dimensional, or not finite.
        """
        return Representation(self._windows(self._represent, wave, sample_rate), self.objective.frame_rate)

    def cluster_probs(self, wave: np.ndarray, sample_rate: int) -> np.ndarray:
        """The cluster head's probabilities, nothing hidden: (T, K)."""
        return self._windows(self._clusters, wave, sample_rate)[0]

    def masked_cluster_probs(self, wave: np.ndarray, sample_rate: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """The cluster head's probabilities (T, K) where frames are hidden, and which were, (T,) bool.

        Spans are drawn from `seed` by the run's own mask config; nothing else of training's randomness is on.
        Raises UsageError where noise stands at hidden frames (`mask.fill = random`), which only training draws.
        """
        if self.objective.mask.fill == "random":
            raise UsageError("mask.fill = random: what stands at hidden frames is drawn only in training")
        function = partial(self._masked_clusters, jax.random.key(seed))
        probs, hidden = self._windows(function, wave, sample_rate)
        return probs, hidden > 0

    def transcribe(self, wave: np.ndarray, sample_rate: int) -> str:
        """What is said, by the likeliest symbol of each frame; waves as `represent` takes them.

        Raises UserError where the run was not fine-tuned to write.
        """
        self.check_writes()
        path = self._windows(self._emissions, wave, sample_rate)[0].argmax(-1)  # (T,)
        return normal("".join(self.objective.vocabulary.of_path(path)))

    def check_writes(self) -> None:
        """Raises UserError where the run was not fine-tuned to write."""
        if not hasattr(self.objective, "emissions"):
            name = self.config["objective"]["name"]
            raise UserError(f"a run of the objective {name} writes no texts: fine-tune it with configs/finetune_ctc.py")

    @cached_property
    def _emissions(self) -> Any:
        return jax.jit(self.objective.emissions)

    @cached_property
    def _represent(self) -> Any:
        return jax.jit(self.objective.represent)

    @cached_property
    def _clusters(self) -> Any:
        return jax.jit(self.objective.clusters)

    @cached_property
    def _masked_clusters(self) -> Any:
        @jax.jit
        def run(key: jax.Array, params: Tree, slow: Tree, wave: jax.Array, lengths: jax.Array) -> Any:
            frames = self.objective.system.frames
            mask = self.objective.hide(key[None], frames(lengths), frames(wave.shape[1]))  # (1, T)
            found, frame_lengths = self.objective.clusters(params, slow, wave, lengths, mask)
            return [*found, mask], frame_lengths

        return run

    def _windows(self, function: Any, wave: np.ndarray, sample_rate: int) -> list[np.ndarray]:
        wave = self._checked(wave, sample_rate)
        longest, overlap = (seconds * SAMPLE_RATE for seconds in (PADDED_SECONDS[-1], OVERLAP_SECONDS))
        hop = round(SAMPLE_RATE / self.objective.frame_rate)
        if len(wave) <= longest:
            return self._padded(function, wave)
        starts = [*range(0, len(wave) - longest, longest - overlap)]
        starts.append(-(-(len(wave) - longest) // hop) * hop)  # the last window ends with the wave, on the grid
        parts: list[list[np.ndarray]] = []
        edges = [0, *(start + overlap // 2 for start in starts[1:]), None]
        for start, first, last in zip(starts, edges[:-1], edges[1:], strict=True):
            keep = slice((first - start) // hop if first else 0, None if last is None else (last - start) // hop)
            parts.append([layer[keep] for layer in self._padded(function, wave[start : start + longest])])
        return [np.concatenate(layer) for layer in zip(*parts, strict=True)]

    def _padded(self, function: Any, wave: np.ndarray) -> list[np.ndarray]:
        size = next(s * SAMPLE_RATE for s in PADDED_SECONDS if s * SAMPLE_RATE >= len(wave))
        padded = np.zeros((1, samples(size // HOP + 1)), np.float32)
        padded[0, : len(wave)] = wave
        layers, frame_lengths = function(self.params, self.slow, jnp.asarray(padded), jnp.array([len(wave)]))
        return [np.asarray(layer, np.float32)[0, : int(frame_lengths[0])] for layer in layers]

    def _checked(self, wave: np.ndarray, sample_rate: int) -> np.ndarray:
        wave = np.asarray(wave, np.float32)
        if wave.ndim != 1:
            raise UserError(f"a wave of shape (S,) was expected, not {wave.shape}: pass one channel at a time")
        if not np.isfinite(wave).all():
            raise UserError("the wave holds NaN or infinite samples: clean it first")
        if sample_rate != SAMPLE_RATE and len(wave):
            wave = soxr.resample(wave, sample_rate, SAMPLE_RATE)
        if len(wave) < self.objective.min_samples:
            raise UserError(
                f"the wave has {len(wave)} samples at {SAMPLE_RATE} Hz; this system needs {self.objective.min_samples}"
            )
        return wave


def load_pretrained(folder: str | Path) -> Pretrained:
    """The newest checkpoint of a run folder; or a folder of Wav2Vec2, HuBERT, WavLM or Data2VecAudio that transformers
    wrote, or that `jepa-speech export hf` wrote, as `jepa-speech import hf` would make a run of it (step 0).

    Raises UserError if the folder is neither, a run without a whole checkpoint, or one of another architecture.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise UserError(
            f"{folder}: neither a run folder (`jepa-speech train --workdir {folder}` makes one) nor a folder of "
            "transformers: no config.json in it; nothing is downloaded"
        )
    config = read_json(path)
    if "model_type" in config:
        model = imported_model(folder)
        return Pretrained(model.config, model.objective, model.params, model.slow, 0)
    if "objective" not in config:
        raise UserError(
            f"{path}: neither of a run (no `objective` in it) nor of a model of transformers (no `model_type`)"
        )
    objective = build(config)
    like = jax.eval_shape(objective.init, jax.random.PRNGKey(0))
    step, params, slow = load_weights(folder, like)
    return Pretrained(config, objective, *jax.tree.map(jnp.asarray, (params, slow)), step)


def untrained(config: Mapping[str, Any], seed: int) -> Pretrained:
    """The same architecture as it was before its first step, from another seed."""
    objective = build(config)
    return Pretrained(config, objective, *jax.jit(objective.init)(jax.random.PRNGKey(seed)), 0)
