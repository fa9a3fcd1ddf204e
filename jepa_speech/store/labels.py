"""Labels in a store: the most likely components of an anchor for every frame, with a pool of all others.

STORE/labels/<first 12 hex digits of the anchor's fingerprint>/
    meta.json           anchor, store, components, top_k, frames, figures of the labelling, CRC-32s
    first_block.npy     (N + 1,) int64: recording i has the blocks first_block[i] ... first_block[i + 1] - 1
    block_start.npy     (blocks + 1,) int64: offset of each block in blocks.bin, and the end of the last one
    blocks.bin          the blocks, packed by `label_codec`
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jepa_speech import checked
from jepa_speech.array_files import read_npy
from jepa_speech.errors import UserError
from jepa_speech.features import grid
from jepa_speech.files import read_object
from jepa_speech.ownership import MARK, is_marked
from jepa_speech.store.checksums import compare_seal, file_crc, sealed
from jepa_speech.store.label_codec import BLOCK, MOST, decode, expand
from jepa_speech.store.store import Store
from jepa_speech.wording import quoted

FORMAT = 2
UNKNOWN = "GMM.npz"  # replaces the path of an anchor in messages if it is unknown
MAX_COMPONENTS = 1 << 16
FILES = ("first_block.npy", "block_start.npy", "blocks.bin")
FIGURES = ("mean_kept_mass", "mean_kl_dense_to_stored", "posterior_entropy", "posterior_perplexity")
# The fields of meta.json in earlier versions, which wrote no checksums.
OLDER = {"format", "anchor", "store", "components", "top_k", "frames", *FIGURES}


class Anchor(Protocol):
    """The interface of an anchor that labels use."""

    @property
    def fingerprint(self) -> str: ...


def labels_path(store: Store, anchor: Anchor | str) -> Path:
    return store.path / "labels" / _fingerprint(anchor)[:12]


def fetch_labels(store: Store, anchor: Anchor | str) -> None:
    """Brings the labels of an anchor up to date, if the store is in a bucket and they are whole there."""
    name = f"labels/{_fingerprint(anchor)[:12]}"
    store.files.fetch(f"{name}/*", last=f"{name}/meta.json")


def upload_labels(store: Store, anchor: Anchor | str) -> None:
    """Writes the labels of an anchor to the bucket of a store, meta.json last."""
    path = labels_path(store, anchor)
    marks = [MARK] if is_marked(path) else []  # without it, these labels could not be replaced
    store.files.upload([f"labels/{path.name}/{file}" for file in (*marks, *FILES, "meta.json")])


class Labels:
    """The stored labels of one anchor, memory-mapped. After pickling, the files are opened again.

    anchor: the anchor, or its fingerprint. file: its path, for messages.
    Raises UserError if the store has no labels of the anchor, or if they are of another store or version, or damaged.
    meta.json and the offsets are checked here, each block when it is read.
    """

    def __init__(self, store: Store, anchor: Anchor | str, file: str = UNKNOWN):
        self._source = store, _fingerprint(anchor)
        self.path = labels_path(store, anchor)
        fingerprint = _fingerprint(anchor)
        fetch_labels(store, anchor)
        again = f"run `jepa-speech label --store {quoted(store.name)} --anchor {quoted(file)}`"
        if not (self.path / "meta.json").is_file():
            store.files.fetch("labels/*/meta.json")
            others = sorted(file.parent.name for file in self.path.parent.glob("[!.]*/meta.json"))
            has = f"it has those of {', '.join(others)}" if others else "it has none"
            raise UserError(f"{store.name}: no labels of anchor {fingerprint[:12]} ({has}); {again}")
        try:
            self.meta: dict[str, Any] = read_object(self.path / "meta.json")
        except UserError as error:
            raise UserError(f"{error}; remove {self.path} and label again") from error
        for what, expected in (("anchor", fingerprint), ("store", store.fingerprint)):
            found = str(self.meta.get(what))
            if found != expected:
                raise UserError(
                    f"{self.path}: labels of {what} {found[:12]}, not {expected[:12]}; remove them and {again}"
                )
        if self.meta.get("format") != FORMAT:
            raise UserError(f"{self.path}: labels have format {self.meta.get('format')}, not {FORMAT}; {again}")
        self._frames = grid.frames(np.asarray(store.samples, np.int64))  # (N,)
        try:
            self._check_meta(f"{self.path / 'meta.json'}")
            self._first_block = self._open("first_block.npy")
            self._block_start = self._open("block_start.npy")
            self._blocks = self._open_blocks()
        except UserError as error:
            raise UserError(f"{error}; remove {self.path} and label again") from error

    def _check_meta(self, where: str) -> None:
        compare_seal(self.meta, OLDER, where)
        self.components: int = checked.field(self.meta, "components", int, where, least=1, most=MAX_COMPONENTS)
        self.top_k: int = checked.field(self.meta, "top_k", int, where, least=1, most=min(MOST, self.components))
        checked.field(self.meta, "frames", int, where, choices=[int(self._frames.sum())])
        for name in FIGURES:
            checked.field(self.meta, name, (int, float), where)

    def __reduce__(self) -> tuple[type, tuple[Store, str]]:
        return Labels, self._source

    def slice(self, i: int, first_frame: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns ids (n, k) uint16 and probs (n, k) float32 of frames of recording i, by falling probability.

        n is `frames`, or the number of frames left. 1 - Σ probs is the mass of the pool. A frame with fewer than k
        components repeats the first with probability 0. Reads only the blocks of these frames. Raises UserError, naming
        the recording, if a block is damaged.
        """
        last = int(self._frames[i])
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
            packed = self._blocks[start:stop].tobytes()
            ids, levels, pool = decode(packed, min(BLOCK, frames - number * BLOCK), self.top_k)
            if ids.max() >= self.components:
                raise ValueError("the anchor has fewer components")
            return ids, levels, pool
        except ValueError as error:
            raise UserError(f"{self.path}: labels of recording {i} are damaged; remove them and label again") from error

    def damage(self) -> str:
        """Returns a line about damage to the labels; "" if there is none."""
        try:
            if "crc" in self.meta:
                self._compare("blocks.bin")
            else:
                for i, frames in enumerate(self._frames.tolist()):
                    self.slice(i, 0, frames)
        except UserError as error:
            return str(error)
        return ""

    def _open(self, name: str) -> np.ndarray:
        """Returns an array of offsets, int64, ascending from 0."""
        path = self.path / name
        try:
            array = checked.array(read_npy(path, again=""), str(path), shape=(None,), kind="i")
        except FileNotFoundError as error:
            raise UserError(f"{path}: missing") from error
        if name == "first_block.npy":
            wrong = not np.array_equal(array, np.cumsum([0, *(-(-self._frames // BLOCK))]))
        else:
            wrong = bool(len(array) != self._first_block[-1] + 1 or array[0] != 0 or (np.diff(array) <= 0).any())
        if wrong:
            raise UserError(f"{path}: does not fit the recordings of the store")
        if "crc" in self.meta:
            self._compare(name)
        return array

    def _open_blocks(self) -> np.ndarray:
        path = self.path / "blocks.bin"
        try:
            blocks = np.memmap(path, np.uint8, "r")
        except (OSError, ValueError) as error:  # an empty file cannot be mapped
            raise UserError(f"{path}: cannot be read ({error})") from error
        if len(blocks) != self._block_start[-1]:
            raise UserError(f"{path}: has {len(blocks)} bytes, not the {self._block_start[-1]} of block_start.npy")
        return blocks

    def _compare(self, name: str) -> None:
        """Raises UserError if the file's CRC-32 is wrong."""
        written = checked.field(self.meta.get("files_crc"), name, int, f"{self.path / 'meta.json'}: files_crc")
        if file_crc(self.path / name) != written:
            raise UserError(f"{self.path / name}: not the bytes that were written")


def sealed_meta(folder: Path, meta: dict[str, Any]) -> dict[str, Any]:
    """Returns `meta` with the CRC-32 of every file in a folder of new labels, and of `meta` itself."""
    return sealed(meta | {"files_crc": {name: file_crc(folder / name) for name in FILES}})


def _fingerprint(anchor: Anchor | str) -> str:
    return anchor if isinstance(anchor, str) else anchor.fingerprint
