"""Task `pr`: phone recognition (SUPERB's PR), the phone sequence without times and silence, by a linear head."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from jepa_speech.probing import phones
from jepa_speech.probing import transcription as KIND
from jepa_speech.probing.ctc_head import Recipe
from jepa_speech.probing.dataset import Utterance
from jepa_speech.text.errors import word_errors

__all__ = ["FIGURES", "KIND", "RECIPE", "read", "score", "sequence"]

FIGURES = {"per": "lower"}
RECIPE = Recipe(learning_rates=(3e-3, 1e-2), projection=256, lstms=0, dropout=0.0, augment=None)


def read(folder: Path, root: str | Path | None = None) -> dict[str, list[Utterance]]:
    """Reads the files of the task `phones`; targets are tuples of phones."""
    return {
        split: [replace(u, target=tuple(phones.spoken(u.target))) for u in utterances]
        for split, utterances in phones.read(folder, root).items()
    }


def sequence(utterance: Utterance, layers: np.ndarray) -> np.ndarray:
    return layers


def score(reference: Sequence[str], hypothesis: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Returns errors and length of the reference, in phones."""
    return {"per": word_errors(" ".join(reference), " ".join(hypothesis))}
