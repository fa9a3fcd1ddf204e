"""Labels in the store: for every frame the k most likely components of an anchor, all others pooled.

STORE/labels/<first 12 hex digits of the anchor's fingerprint>/
    meta.json      of which anchor and store, components, top_k, frames, and what labelling measured
    offsets.npy    (N + 1,) int64: recording i owns the rows offsets[i] ... offsets[i + 1] - 1
    ids.npy        (frames, k) uint16, most likely first
    probs.npy      (frames, k) float16; what is missing to 1 belongs to the pool
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from jepa_speech.data.store import Store
from jepa_speech.errors import UserError
from jepa_speech.features import grid
from jepa_speech.files import read_json, write_json

FORMAT = 1
MAX_COMPONENTS = 1 << 16
_DTYPES = {"ids": np.dtype(np.uint16), "probs": np.dtype(np.float16), "rest": np.dtype(np.float16)}


def _columns(top_k: int) -> dict[str, int]:
    return {"ids": top_k, "probs": top_k, "rest": 1}


class Anchor(Protocol):
    """What tells anchors apart."""

    @property
    def fingerprint(self) -> str: ...


def labels_path(store: Store, anchor: Anchor | str) -> Path:
    return store.path / "labels" / _fingerprint(anchor)[:12]


class Labels:
    """The stored labels of one anchor, memory-mapped; pickled, they open their files anew.

    `anchor`: the anchor, or its fingerprint. Raises UserError if the store has no labels of it, or if those
    there were made from another store or another anchor.
    """

    def __init__(self, store: Store, anchor: Anchor | str):
        self._source = store, _fingerprint(anchor)
        self.path = labels_path(store, anchor)
        fingerprint = _fingerprint(anchor)
        again = f"run `jepa-speech label --store {store.path} --anchor GMM.npz`"
        if not (self.path / "meta.json").is_file():
            others = sorted(file.parent.name for file in self.path.parent.glob("[!.]*/meta.json"))
            has = f"it has those of {', '.join(others)}" if others else "it has none"
            raise UserError(f"{store.path}: no labels of anchor {fingerprint[:12]} ({has}); {again}")
        self.meta: dict[str, Any] = read_json(self.path / "meta.json")
        for what, expected in (("anchor", fingerprint), ("store", store.fingerprint)):
            found = str(self.meta.get(what))
            if found != expected:
                raise UserError(
                    f"{self.path}: labels of {what} {found[:12]}, not of {expected[:12]}; remove them, {again}"
                )
        self.top_k: int = self.meta["top_k"]
        self.components: int = self.meta["components"]
        self._offsets = self._open("offsets", (len(store) + 1,), np.dtype(np.int64))
        self._ids, self._probs, self._rest = (
            self._open(name, (self.meta["frames"], columns), _DTYPES[name])
            for name, columns in _columns(self.top_k).items()
        )

    def __reduce__(self) -> tuple[type, tuple[Store, str]]:
        return Labels, self._source

    def slice(self, i: int, first_frame: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Of recording i: ids (n, k) uint16 and probs (n, k) float32, n being `frames`, or what is left if fewer."""
        start = int(self._offsets[i]) + first_frame
        rows = slice(start, min(start + frames, int(self._offsets[i + 1])))
        probs = self._probs[rows].astype(np.float32)
        probs[:, 0] = 1 - self._rest[rows, 0].astype(np.float32) - probs[:, 1:].sum(axis=1)
        return np.array(self._ids[rows]), probs

    def _open(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        path = self.path / f"{name}.npy"
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path}: cannot be read ({error}); remove {self.path} and label again") from error
        if array.shape != shape or array.dtype != dtype:
            raise UserError(f"{path}: does not fit its meta.json; remove {self.path} and label again")
        return array


class LabelWriter:
    """Writes labels in any order; they exist only once `finish` has been called.

    A context manager: left early, it removes what it wrote. What a killed process leaves has a hidden name,
    passes for nothing, and is overwritten by the next.
    """

    def __init__(self, store: Store, anchor: Anchor, components: int, top_k: int):
        self._store, self._fingerprint, self._top_k = store, anchor.fingerprint, top_k
        self._components = components
        self.path = labels_path(store, anchor)
        self._part = self.path.with_name(f".{self.path.name}.part")
        self._files: dict[str, tuple[BinaryIO, int]] = {}

    def __enter__(self) -> "LabelWriter":
        shutil.rmtree(self._part, ignore_errors=True)
        self._part.mkdir(parents=True)
        counts = grid.frames(np.asarray(self._store.samples, np.int64))
        self._offsets = np.concatenate([[0], np.cumsum(counts)])
        self._frames = int(self._offsets[-1])
        np.save(self._part / "offsets.npy", self._offsets)
        for name, columns in _columns(self._top_k).items():
            path, shape = self._part / f"{name}.npy", (self._frames, columns)
            header = np.lib.format.open_memmap(path, mode="w+", dtype=_DTYPES[name], shape=shape).offset
            # Written, not mapped: pages of a mapped file would count as this process's memory.
            self._files[name] = path.open("r+b"), header
        return self

    def put(self, record: int, first_frame: int, ids: np.ndarray, probs: np.ndarray, rest: np.ndarray) -> None:
        """ids, probs (n, k) and the pool's mass (n,) of the frames first_frame ... of a recording."""
        row = int(self._offsets[record]) + first_frame
        for name, values in (("ids", ids), ("probs", probs), ("rest", rest)):
            file, header = self._files[name]
            file.seek(header + row * _columns(self._top_k)[name] * _DTYPES[name].itemsize)
            file.write(np.ascontiguousarray(values, _DTYPES[name]).tobytes())

    def finish(self, measured: Mapping[str, Any]) -> None:
        """Flushes all to disk, then gives the folder its name."""
        for file, _ in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        identity = {"format": FORMAT, "anchor": self._fingerprint, "store": self._store.fingerprint}
        size = {"components": self._components, "top_k": self._top_k, "frames": self._frames}
        write_json(self._part / "meta.json", identity | size | measured)
        if self.path.exists():  # of another top-k, or not readable
            old = self.path.with_name(f".{self.path.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            self.path.replace(old)
        self._part.replace(self.path)
        shutil.rmtree(self.path.with_name(f".{self.path.name}.old"), ignore_errors=True)

    def __exit__(self, *_: object) -> None:
        for file, _header in self._files.values():
            file.close()
        shutil.rmtree(self._part, ignore_errors=True)  # gone already if finished


def _fingerprint(anchor: Anchor | str) -> str:
    return anchor if isinstance(anchor, str) else anchor.fingerprint
