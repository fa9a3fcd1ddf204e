"""A checkpoint as `analyze` looks at it: as functions of a wave, and in words what it does not have."""

from pathlib import Path

import numpy as np

from jepa_speech.analysis.collect import Subject, anchor_posteriors
from jepa_speech.anchors.anchor import Anchor
from jepa_speech.anchors.load import load_anchor
from jepa_speech.cloud.mirror import local_copy
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.objectives.gmm_jepa import GmmJepa
from jepa_speech.path_lists import weighted_paths
from jepa_speech.pretrained.load import Pretrained
from jepa_speech.settings.run_config import RunConfig

APART = 1_000_003  # between the seeds of two lists, so that their recordings' masks differ


def open_anchor(config: RunConfig, path: str | Path | None) -> tuple[Anchor | None, str]:
    """The anchor of the run's targets and "", or None and why it, or what it needs, is not at hand."""
    if path is None:
        found = weighted_paths(text, "anchor.path") if (text := config.anchor.path) else []
        if not found:
            return (
                None,
                "the config names no anchor, so targets are left out; pass an anchor to add its targets",
            )
        if len(found) > 1:
            return None, "targets of an ensemble of anchors are left out; pass one anchor to add its targets"
        path = found[0][0]
    try:
        there = local_copy(path).is_file()
    except FileNotFoundError:
        there = False
    if not there:
        return None, f"{path} does not exist, so the targets are left out; pass the anchor's new path to add them"
    anchor = load_anchor(path)
    if anchor.checkpoint_fingerprint:
        return None, f"{path} was fitted to {anchor.features} of another checkpoint: the targets are left out"
    return anchor, ""


def wired(model: Pretrained, anchor: Anchor | None, seed: int) -> Subject:
    """The model's layers, its cluster head if it has one, with and without masked frames, and its targets."""

    def masked(wave: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        return model.masked_cluster_probs(wave, SAMPLE_RATE, APART * seed + number)

    head = model.cluster_head
    return Subject(
        represent=lambda wave: model.represent(wave, SAMPLE_RATE).layers,
        model=(lambda wave: model.cluster_probs(wave, SAMPLE_RATE)) if head else None,
        targets=anchor_posteriors(anchor) if anchor is not None else None,
        masked=masked if head and not head.mask.drawn else None,
        frame_rate=model.objective.frame_rate,
    )


def missing(model: Pretrained) -> list[str]:
    """What the model's own figures lack or mean otherwise, a line each."""
    config, head = model.config, model.cluster_head
    if head is None:
        without = "without an anchor" if isinstance(model.objective, GmmJepa) else "which has none"
        trained = f"trained by {config.objective.name}, {without}"
        why = "only its encoder was imported" if config.imported else trained
        return [f"no head over an anchor's clusters ({why}): its own cluster figures are –"]
    if head.mask.drawn:
        fill = f"mask.fill = {head.mask.fill}"
        return [f"{fill}: masked frames are filled with random draws only in training; their figures are –"]
    if head.mask.site == "pre_predictor":
        return ["mask.site = pre_predictor: its head sees every frame, so masked frames are as easy as visible ones"]
    return []
