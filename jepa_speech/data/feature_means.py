"""The mean feature vector of each recording, kept with the store so that a crop can be normalised by it."""

from pathlib import Path

import numpy as np

from jepa_speech.data.store import Store
from jepa_speech.errors import UserError
from jepa_speech.files import replacing


def means_path(store: Store, kind: str) -> Path:
    return store.path / "feature_means" / f"{kind}.npy"


def load_means(store: Store, kind: str) -> np.ndarray:
    """(N, F) float32, memory-mapped. Raises UserError if the store has none, or ones that do not fit it."""
    path = means_path(store, kind)
    again = "run `jepa-speech label` with this store and anchor"
    try:
        means = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path}: this store has no feature means yet; {again}") from error
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: broken; remove it and {again}") from error
    if means.ndim != 2 or len(means) != len(store):
        raise UserError(
            f"{path}: {means.shape}, of another store than these {len(store)} recordings; remove it, {again}"
        )
    return means


def save_means(store: Store, kind: str, means: np.ndarray) -> None:
    """Whole or not at all."""
    with replacing(means_path(store, kind)) as file:
        np.save(file, means.astype(np.float32))
