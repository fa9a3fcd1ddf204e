"""Task `speaker`: who speaks? One vector per utterance, the mean over its frames."""

from pathlib import Path

import numpy as np

from jepa_speech.probe.dataset import SPLITS, Utterance, read_manifest


def read(folder: Path) -> dict[str, list[Utterance]]:
    return {split: read_manifest(folder / f"sid.{split}.manifest.jsonl", "label") for split in SPLITS}


def rows(utterance: Utterance, layers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Layers (L, T, D) -> their mean over time (1, L, D), and the speaker (1,)."""
    return layers.mean(1)[None], np.array([str(utterance.target)])
