"""The mean feature vector of each recording, kept with the store so that a crop can be normalised by it."""

from pathlib import Path

import numpy as np

from jepa_speech import checked
from jepa_speech.array_files import read_npy, write_npy
from jepa_speech.errors import UserError
from jepa_speech.features.spectral import DIMS
from jepa_speech.store.store import Store


def means_path(store: Store, kind: str) -> Path:
    return store.path / "feature_means" / f"{kind}.npy"


def load_means(store: Store, kind: str) -> np.ndarray:
    """(N, F) float32, memory-mapped. Raises UserError if the store has none, or damaged ones, or another store's."""
    path = means_path(store, kind)
    again = "run `jepa-speech label` with this store and anchor"
    try:
        means = read_npy(path, f"remove it and {again}")
    except FileNotFoundError as error:
        raise UserError(f"{path}: this store has no feature means yet; {again}") from error
    if means.ndim != 2 or len(means) != len(store):
        raise UserError(
            f"{path}: {means.shape}, of another store than these {len(store)} recordings; remove it, {again}"
        )
    return checked.array(means, str(path), shape=(len(store), DIMS.get(kind)))


def save_means(store: Store, kind: str, means: np.ndarray) -> None:
    """Whole or not at all. Raises UserError if they are not finite."""
    means = checked.array(means.astype(np.float32), f"{kind} features of {store.path}", shape=means.shape)
    write_npy(means_path(store, kind), means)
