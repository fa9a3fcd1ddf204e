"""The features that anchors are fitted to: spectral ones by name, or a layer of a trained encoder (HuBERT's second
iteration), computed on whole recordings as they are read and never written to disk.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from jepa_speech.anchors.anchor import Anchor
from jepa_speech.cloud.arguments import with_urls
from jepa_speech.errors import UsageError, UserError
from jepa_speech.features import grid
from jepa_speech.features.spectral import DIMS
from jepa_speech.files import sha256_arrays
from jepa_speech.labelling.anchoring import feature_means, seconds_of
from jepa_speech.labelling.extractors import Extractor, Spectral, WholeRecordings
from jepa_speech.objective_parts.contract import Objective, Tree
from jepa_speech.pretrained.from_bucket import local_model
from jepa_speech.pretrained.load import Pretrained, load_pretrained
from jepa_speech.progress import bar
from jepa_speech.store.feature_means import means_path
from jepa_speech.store.store import Store
from jepa_speech.training.checkpoint import by_path, weights_tree
from jepa_speech.training.checkpoint_steps import Step, as_steps, chosen_checkpoint, located


class Source(NamedTuple):
    """Features, and for a layer its checkpoint: the run folder and the hash of its weights."""

    extractor: Extractor
    checkpoint: str = ""
    fingerprint: str = ""


def source(features: str, checkpoint: str | Path | None, step: Step | None = None) -> Source:
    """Returns the features of this name; layer:N is a layer of the checkpoint, with a step of RUN/checkpoints/STEP.

    Raises UsageError if there are no such features, and UserError if the checkpoint's are not at 50 Hz.
    """
    if features in DIMS:
        if given := _given(checkpoint, step):
            raise UsageError(f"{given} goes with features = layer:N, not with {features}")
        return Source(Spectral(features))
    if not re.fullmatch(r"layer:\d+", features):
        raise UsageError(f"features = {features!r}: choose {', '.join(DIMS)}, or layer:N of a checkpoint")
    if not checkpoint:
        raise UsageError(f"features = {features} needs checkpoint: the run folder whose layer it is")
    place = chosen_checkpoint(local_model(checkpoint, as_steps(step)), step)
    return layer_source(load_pretrained(place), features, place)


def source_of(anchor: Anchor, path: str | Path, checkpoint: str | Path | None, step: Step | None = None) -> Source:
    """Returns the features of the anchor in `path`. Raises UserError for another checkpoint than it was fitted to."""
    if not anchor.checkpoint_fingerprint:
        if given := _given(checkpoint, step):
            raise UsageError(f"{given}: {path} is fitted to {anchor.features} and needs none")
        return Source(Spectral(anchor.features))
    found = source(anchor.features, checkpoint or anchor.checkpoint, step)
    if found.fingerprint != anchor.checkpoint_fingerprint:
        raise UserError(
            f"{found.checkpoint}: {'this' if located(found.checkpoint)[1] else 'its newest'} checkpoint is not the one "
            f"that {path} was fitted to (weights {found.fingerprint[:12]}, not {anchor.checkpoint_fingerprint[:12]}): "
            "name that one with checkpoint and step, or fit an anchor to this one"
        )
    return found


def _given(checkpoint: str | Path | None, step: Step | None) -> str:
    return f"checkpoint = {checkpoint}" if checkpoint else f"step = {step}" if step is not None else ""


def compute_means(store: Store, features: Extractor, normalize: str, progress: bool) -> None:
    """Computes the recordings' mean feature vectors, where they are needed and not kept with the store yet."""
    if normalize == "mean" and not means_path(store, features.key).is_file():
        with bar("means", seconds_of(store), progress) as shown:
            feature_means(store, features, shown.update)


def layer_source(model: Pretrained, features: str, checkpoint: str) -> Source:
    """Returns layer N ("layer:N") of a model as features: `represent` on whole recordings, no masks or dropout."""
    layer = int(features.removeprefix("layer:"))
    samples = max(grid.samples(50), model.objective.min_samples)  # with one sample less there is one frame less
    wave = jax.ShapeDtypeStruct((1, samples), np.float32), jax.ShapeDtypeStruct((1,), np.int32)
    layers, _ = jax.eval_shape(model.objective.represent, model.params, model.aux_state, *wave)
    if layer >= len(layers):
        raise UsageError(f"features = {features}: {checkpoint} has the layers 0 to {len(layers) - 1}")
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
    return Source(WholeRecordings(features, key, width, of), with_urls(str(Path(checkpoint).resolve())), fingerprint)


@dataclass(frozen=True)
class OneLayer:
    """An objective with only this layer: layers above it are not computed, and no other layer is copied."""

    objective: Objective
    layer: int

    def represent(
        self, params: Tree, aux_state: Tree, wave: jax.Array, lengths: jax.Array
    ) -> tuple[list[jax.Array], jax.Array]:
        layers, frame_lengths = self.objective.represent(params, aux_state, wave, lengths)
        return [layers[self.layer]], frame_lengths

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(self.objective, name)
