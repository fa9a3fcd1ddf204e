"""`--features` and `--checkpoint`: spectral features by name, or a layer of a trained encoder (HuBERT's second
iteration), computed on whole recordings as they are read and never written to disk.
"""

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from jepa_speech.anchors.anchor import Anchor
from jepa_speech.errors import UsageError, UserError
from jepa_speech.features import grid
from jepa_speech.features.spectral import DIMS
from jepa_speech.files import sha256_arrays
from jepa_speech.labelling.extractors import Extractor, Spectral, WholeRecordings
from jepa_speech.objective_parts.contract import Objective, Tree
from jepa_speech.pretrained.load import Pretrained, load_pretrained
from jepa_speech.train.checkpoint import by_path, weights_tree
from jepa_speech.train.checkpoint_steps import Step, chosen_checkpoint, located

FEATURES = f"{', '.join(DIMS)}, or layer:N of --checkpoint (0: the input of its first block)"


class Source(NamedTuple):
    """Features, and for a layer its checkpoint: the run folder and the hash of its weights."""

    extractor: Extractor
    checkpoint: str = ""
    fingerprint: str = ""


def feature_name(text: str) -> str:
    """For argparse: a spectral kind, or layer:N."""
    if text in DIMS or re.fullmatch(r"layer:\d+", text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r}: choose {FEATURES}")


def source(features: str, checkpoint: str | None, step: Step | None = None) -> Source:
    """What --features, --checkpoint and --step ask for. With a step the source's checkpoint is RUN/checkpoints/STEP.

    Raises UserError where the checkpoint has no such layer at 50 Hz.
    """
    if features in DIMS:
        if given := f"--checkpoint {checkpoint}" if checkpoint else f"--step {step}" if step is not None else "":
            raise UsageError(f"{given} goes with --features layer:N, not with {features}")
        return Source(Spectral(features))
    if not checkpoint:
        raise UsageError(f"--features {features} needs --checkpoint RUN: the run folder whose layer it is")
    checkpoint = chosen_checkpoint(checkpoint, step)
    return layer_source(load_pretrained(checkpoint), features, checkpoint)


def source_of(anchor: Anchor, path: str, checkpoint: str | None, step: Step | None = None) -> Source:
    """The features that an anchor of `path` lives in; raises UserError for another checkpoint than it was fitted to."""
    if not anchor.checkpoint_fingerprint:
        if given := f"--checkpoint {checkpoint}" if checkpoint else f"--step {step}" if step is not None else "":
            raise UsageError(f"{given}: {path} lives in {anchor.features}, and needs none")
        return Source(Spectral(anchor.features))
    found = source(anchor.features, checkpoint or anchor.checkpoint, step)
    if found.fingerprint != anchor.checkpoint_fingerprint:
        raise UserError(
            f"{found.checkpoint}: {'this' if located(found.checkpoint)[1] else 'its newest'} checkpoint is not the one "
            f"that {path} was fitted to (weights {found.fingerprint[:12]}, not {anchor.checkpoint_fingerprint[:12]}): "
            "name that one with --checkpoint and --step, or fit an anchor to this one"
        )
    return found


def layer_source(model: Pretrained, features: str, checkpoint: str) -> Source:
    """Layer N ("layer:N") of a model, nothing hidden and nothing dropped; longer recordings as `represent` has them."""
    layer = int(features.removeprefix("layer:"))
    samples = max(grid.samples(50), model.objective.min_samples)  # one sample less would hold one frame less
    wave = jax.ShapeDtypeStruct((1, samples), np.float32), jax.ShapeDtypeStruct((1,), np.int32)
    layers, _ = jax.eval_shape(model.objective.represent, model.params, model.aux_state, *wave)
    if layer >= len(layers):
        raise UsageError(f"--features {features}: {checkpoint} has the layers 0 to {len(layers) - 1}")
    _, frames, width = layers[layer].shape
    if frames != grid.frames(samples):
        raise UserError(
            f"{checkpoint}: {features} has {frames} frames in {samples / grid.SAMPLE_RATE:g} s, and labels have "
            f"{grid.frames(samples)}: choose a checkpoint whose encoder has frames of {grid.WINDOW} samples at "
            f"{grid.FRAME_RATE:g} Hz"
        )
    fingerprint = sha256_arrays(by_path(weights_tree(model.params, model.aux_state)))
    single = replace(model, objective=cast(Objective, OneLayer(model.objective, layer)))

    def of(wave: np.ndarray) -> np.ndarray:
        return single.represent(wave, grid.SAMPLE_RATE).layers[0]

    key = f"layer-{layer}-{fingerprint[:12]}"
    return Source(WholeRecordings(features, key, width, of), str(Path(checkpoint).resolve()), fingerprint)


@dataclass(frozen=True)
class OneLayer:
    """An objective whose only layer is this one: those above it are not computed, no other one is copied."""

    objective: Objective
    layer: int

    def represent(
        self, params: Tree, aux_state: Tree, wave: jax.Array, lengths: jax.Array
    ) -> tuple[list[jax.Array], jax.Array]:
        layers, frame_lengths = self.objective.represent(params, aux_state, wave, lengths)
        return [layers[self.layer]], frame_lengths

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(self.objective, name)
