"""Labels in the store: for every frame the most likely components of an anchor, all others pooled.

STORE/labels/<first 12 hex digits of the anchor's fingerprint>/
    meta.json           of which anchor and store, components, top_k, frames, and what labelling measured
    first_block.npy     (N + 1,) int64: recording i owns the blocks first_block[i] ... first_block[i + 1] - 1
    block_start.npy     (blocks + 1,) int64: where each block begins in blocks.bin, and where the last one ends
    blocks.bin          the blocks, as `label_codec` packs them
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jepa_speech.data.label_codec import BLOCK, decode, expand
from jepa_speech.data.store import Store
from jepa_speech.errors import UserError
from jepa_speech.features import grid
from jepa_speech.files import read_json

FORMAT = 2
MAX_COMPONENTS = 1 << 16


class Anchor(Protocol):
    """What tells anchors apart."""

    @property
    def fingerprint(self) -> str: ...


def labels_path(store: Store, anchor: Anchor | str) -> Path:
    return store.path / "labels" / _fingerprint(anchor)[:12]


class Labels:
    """The stored labels of one anchor, memory-mapped; pickled, they open their files anew.

    `anchor`: the anchor, or its fingerprint. Raises UserError if the store has no labels of it, or if those
    there were made from another store or another anchor, or by an older version.
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
        if self.meta.get("format") != FORMAT:
            raise UserError(f"{self.path}: labels of format {self.meta.get('format')}, not {FORMAT}; {again}")
        self.top_k: int = self.meta["top_k"]
        self.components: int = self.meta["components"]
        self._samples = store.samples
        self._first_block = self._open("first_block.npy", (len(store) + 1,))
        self._block_start = self._open("block_start.npy", (int(self._first_block[-1]) + 1,))
        self._blocks = self._open("blocks.bin", (int(self._block_start[-1]),))

    def __reduce__(self) -> tuple[type, tuple[Store, str]]:
        return Labels, self._source

    def slice(self, i: int, first_frame: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Of recording i: ids (n, k) uint16 and probs (n, k) float32, n being `frames`, or what is left if fewer.

        Most likely first. What is missing to 1 belongs to the pool; a frame that keeps fewer than k repeats its first
        component with a probability of 0. Only the blocks that hold these frames are read. Raises UserError, naming
        the recording, where one of them is damaged.
        """
        last = int(grid.frames(int(self._samples[i])))
        stop = max(first_frame, min(first_frame + frames, last))
        parts = [self._block(i, number, last) for number in range(first_frame // BLOCK, -(-stop // BLOCK))]
        if not parts:
            return np.zeros((0, self.top_k), np.uint16), np.zeros((0, self.top_k), np.float32)
        ids, levels, pool = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        here = slice(first_frame % BLOCK, first_frame % BLOCK + stop - first_frame)
        return ids[here], expand(levels[here], pool[here])

    def _block(self, i: int, number: int, frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        block = int(self._first_block[i]) + number
        start, stop = self._block_start[block : block + 2].tolist()
        try:
            return decode(self._blocks[start:stop].tobytes(), min(BLOCK, frames - number * BLOCK), self.top_k)
        except ValueError as error:
            raise UserError(f"{self.path}: labels of recording {i} are damaged; remove them and label again") from error

    def _open(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        path = self.path / name
        try:
            if path.suffix == ".npy":
                array, dtype = np.load(path, mmap_mode="r", allow_pickle=False), np.int64
            else:
                array, dtype = np.memmap(path, np.uint8, "r"), np.uint8
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path}: cannot be read ({error}); remove {self.path} and label again") from error
        if array.shape != shape or array.dtype != dtype:
            raise UserError(f"{path}: does not fit the other files; remove {self.path} and label again")
        return array


def _fingerprint(anchor: Anchor | str) -> str:
    return anchor if isinstance(anchor, str) else anchor.fingerprint
