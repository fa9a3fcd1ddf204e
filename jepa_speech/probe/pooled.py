"""Tasks of one label per utterance, told from the mean over its frames: keywords, intents, speakers, emotions.

SUPERB's head for them is linear, mean, linear, and so a linear classifier of the mean. An intent of several parts
(action, object, place) is one label that joins them: it is right when all of them are, as SUPERB counts it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jepa_speech.probe import classification, folds
from jepa_speech.probe.dataset import SPLITS, Utterance, check_seen, class_name, read_manifest
from jepa_speech.probe.linear import RECIPE, Recipe


@dataclass(frozen=True)
class Pooled:
    """A task whose labels stand in a field of the manifests; `manifest` is their name with a place for the split."""

    manifest: str
    field: str
    needed: tuple[str, ...] = ()  # other fields
    KIND: Any = classification
    RECIPE: Recipe = RECIPE

    def read(self, folder: Path) -> dict[str, list[Utterance]]:
        paths = {split: folder / self.manifest.format(split) for split in SPLITS}
        splits = {split: read_manifest(path, self.label_of) for split, path in paths.items()}
        if self.KIND is classification:  # folds have other splits
            check_seen(splits, self.field, lambda label: [label])
        return splits

    def label_of(self, labels: Mapping[str, Any], where: str) -> str:
        for name in self.needed:
            class_name(labels, name, where)
        return class_name(labels, self.field, where)

    def rows(self, utterance: Utterance, layers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Layers (L, T, D) -> their mean over time (1, L, D), and the label (1,)."""
        return layers.mean(1)[None], np.array([utterance.target])


KEYWORDS = Pooled("{}.manifest.jsonl", "label")
INTENT = Pooled("{}.manifest.jsonl", "intent")
SPEAKER = Pooled("sid.{}.manifest.jsonl", "label")
EMOTION = Pooled("{}.manifest.jsonl", "emotion", ("speaker",), folds)
