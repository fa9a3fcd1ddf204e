"""Mean feature vectors of a store's recordings, by which features of crops are normalised."""

from pathlib import Path

import numpy as np

from jepa_speech import checked
from jepa_speech.array_files import read_npy, write_npy
from jepa_speech.errors import UserError
from jepa_speech.features.spectral import DIMS
from jepa_speech.store.store import Store


def means_path(store: Store, kind: str) -> Path:
    """Returns the path of a store's means, which are fetched if it is in a bucket."""
    store.files.fetch(f"feature_means/{kind}.npy")
    return store.path / "feature_means" / f"{kind}.npy"


def load_means(store: Store, kind: str) -> np.ndarray:
    """Returns means (N, F) float32, memory-mapped. Raises UserError if they are missing, damaged or another store's."""
    path = means_path(store, kind)
    again = "run `jepa-speech label` with this store and anchor"
    try:
        means = read_npy(path, f"remove it and {again}")
    except FileNotFoundError as error:
        raise UserError(f"{path}: this store has no feature means yet; {again}") from error
    if means.ndim != 2 or len(means) != len(store):
        raise UserError(
            f"{path}: has shape {means.shape}, but the store has {len(store)} recordings; remove it and {again}"
        )
    return checked.array(means, str(path), shape=(len(store), DIMS.get(kind)))


def save_means(store: Store, kind: str, means: np.ndarray) -> None:
    """Writes means (N, F) atomically. Raises UserError if they are not finite."""
    means = checked.array(means.astype(np.float32), f"{kind} features of {store.name}", shape=means.shape)
    write_npy(means_path(store, kind), means)
