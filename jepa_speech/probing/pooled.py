"""Tasks with one label per utterance, predicted from the mean over its frames: keywords, intents, speakers, emotions.

SUPERB's head for them is linear, mean, linear, which is a linear classifier of the mean. As in SUPERB, an intent of
several parts (action, object, place) is one label that joins them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jepa_speech.probing import classification, folds
from jepa_speech.probing.dataset import Utterance, check_seen, class_name, read_split
from jepa_speech.probing.linear import RECIPE, Recipe
from jepa_speech.probing.splits import SPLITS


@dataclass(frozen=True)
class Pooled:
    """A task whose labels are in a field of the manifests."""

    field: str
    needed: tuple[str, ...] = ()  # other required fields
    prefix: str = ""  # of the manifests' names
    KIND: Any = classification
    RECIPE: Recipe = RECIPE

    def read(self, folder: Path, root: str | Path | None = None) -> dict[str, list[Utterance]]:
        splits = {split: read_split(folder, split, self.label_of, root, self.prefix) for split in SPLITS}
        if self.KIND is classification:  # folds make their own splits
            check_seen(splits, self.field, lambda label: [label])
        return splits

    def label_of(self, labels: Mapping[str, Any], where: str) -> str:
        for name in self.needed:
            class_name(labels, name, where)
        return class_name(labels, self.field, where)

    def rows(self, utterance: Utterance, layers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the mean over time (1, L, D) of layers (L, T, D), and the label (1,)."""
        return layers.mean(1)[None], np.array([utterance.target])


KEYWORDS = Pooled("label")
INTENT = Pooled("intent")
SPEAKER = Pooled("label", prefix="sid.")
EMOTION = Pooled("emotion", ("speaker",), KIND=folds)
