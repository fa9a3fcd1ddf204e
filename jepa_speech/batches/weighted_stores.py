"""Several stores with weights, read as one, for training on a mixture of corpora."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jepa_speech.batches.batch_plan import Share
from jepa_speech.cloud.cache import Shard
from jepa_speech.errors import UsageError
from jepa_speech.path_lists import weighted_paths
from jepa_speech.store.feature_means import load_means
from jepa_speech.store.store import Store
from jepa_speech.store.store_files import BucketFiles, LocalFiles

if TYPE_CHECKING:
    from jepa_speech.batches.transcripts import Transcribed


def open_stores(text: str, where: str = "data.store") -> "Store | Stores":
    """Opens the store or stores that the config key `where` names.

    Raises UsageError (see `weighted_paths`), UserError for an incomplete or damaged store.
    """
    (first, *others) = found = weighted_paths(text, where)
    return Store(first[0]) if not others and first[1] == 1 else Stores(found)


class Stores:
    """Several stores whose recordings are numbered consecutively, read like one store.

    Attributes: `samples` (N,) int64, `level` (N,), `hours`, `fingerprint` (of stores and weights) as in a store;
    `parts`, the stores with their weights; `shares`, (records, weight) of each for a batch plan.
    """

    def __init__(self, paths: Sequence[tuple[str | Path | LocalFiles | BucketFiles, float]]) -> None:
        self.parts = [(Store(path), float(weight)) for path, weight in paths]
        stores = [store for store, _ in self.parts]
        prints = [store.fingerprint for store in stores]
        for i, store in enumerate(stores):
            if prints[i] in prints[:i]:
                before = stores[prints.index(prints[i])].name
                raise UsageError(f"config key data.store: {store.name} and {before} are the same; name one of them")
        self.samples = np.concatenate([store.samples for store in stores])  # (N,)
        self.level = Joined([store.level for store in stores])
        self.remote = any(store.remote for store in stores)
        self.hours = sum(store.hours for store in stores)
        self.shares: list[Share] = [(len(store), weight) for store, weight in self.parts]
        identity = [[store.fingerprint, weight] for store, weight in self.parts]
        self.fingerprint = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        self._first = _firsts(stores)

    def __reduce__(self) -> tuple[type, tuple[list[tuple[LocalFiles | BucketFiles, float]]]]:
        return Stores, ([(store.files, weight) for store, weight in self.parts],)

    def __repr__(self) -> str:
        return " + ".join(f"{weight:g} x {store!r}" for store, weight in self.parts)

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, i: int, start: int = 0, samples: int | None = None) -> np.ndarray:
        """Like `Store.read`; i counts over all stores."""
        part, number = self.find(i)
        return self.parts[part][0].read(number, start, samples)

    def in_bucket(self, records: np.ndarray) -> list[Shard]:
        """Like `Store.in_bucket`; records are numbered over all stores."""
        part = np.searchsorted(self._first, records, side="right") - 1
        return [
            shard
            for number, (store, _) in enumerate(self.parts)
            for shard in store.in_bucket(records[part == number] - self._first[number])
        ]

    def named(self, i: int) -> str:
        """Like `Store.named`; i counts over all stores."""
        part, number = self.find(i)
        return self.parts[part][0].named(number)

    def find(self, i: int) -> tuple[int, int]:
        """Returns the part that has recording i, and the recording's number in it."""
        part = int(np.searchsorted(self._first, i, side="right")) - 1
        return part, i - int(self._first[part])


class Joined:
    """Arrays (N_i, ...) as one array (N, ...), indexed by record numbers. Memory maps stay on disk."""

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        self._arrays, self._first = list(arrays), _firsts(arrays)

    def __getitem__(self, records: np.ndarray) -> np.ndarray:
        """Returns the rows (B, ...) of records (B,)."""
        records = np.asarray(records)
        part = np.searchsorted(self._first, records, side="right") - 1  # (B,)
        rows = [self._arrays[p][i - self._first[p]] for p, i in zip(part.tolist(), records.tolist(), strict=True)]
        return np.array(rows)


def stored_means(store: Store | Stores, kind: str) -> np.ndarray | Joined:
    """Returns feature means (N, F), indexed by record. Raises UserError if a store has none of this kind."""
    if isinstance(store, Store):
        return load_means(store, kind)
    return Joined([load_means(part, kind) for part, _ in store.parts])


def shares(store: "Store | Stores | Transcribed") -> list[Share]:
    """Returns (records, weight) of each store, for a batch plan."""
    return [(len(store), 1.0)] if isinstance(store, Store) else store.shares


def _firsts(parts: Sequence) -> np.ndarray:
    """Returns each part's first record number."""
    return np.cumsum([0, *(len(part) for part in parts)])[:-1]
