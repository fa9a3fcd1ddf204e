"""Writing labels in chunks of recordings, by one process or several on any machines, and joining them.

STORE/labels/.<anchor>.jepa-speech.lock     held while labels of this anchor are made; shared by parts
STORE/labels/.<anchor>-<store>-k<top_k>/    (12 hex digits of each fingerprint)
    plan.json           anchor, store and number of parts
    chunk-*.npz         blocks, their sizes, and sums of the figures; written whole or not at all

The recordings of a chunk depend on the store alone, so a chunk has the same bytes whichever process writes it.
"""

import errno
import os
import re
import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from jepa_speech import checked, ownership
from jepa_speech.arguments import Part
from jepa_speech.array_files import read_npz
from jepa_speech.errors import UserError
from jepa_speech.features import grid
from jepa_speech.files import read_object, replacing, write_json
from jepa_speech.lock import locked
from jepa_speech.store.checksums import compare_seal, sealed
from jepa_speech.store.label_codec import BLOCK, encode
from jepa_speech.store.labels import FIGURES, FORMAT, Anchor, labels_path, sealed_meta
from jepa_speech.store.store import Store

CHUNK_FRAMES = 250_000  # least frames of a chunk except the last: 1.4 h

NAMES = ("plan.json", "chunk-*.npz", "meta.json", "first_block.npy", "block_start.npy", "blocks.bin")
UNFINISHED = re.compile(r"\.[0-9a-f]{12}-[0-9a-f]{12}-k\d+")


def labelling(store: Store, anchor: Anchor | str, shared: bool = False) -> AbstractContextManager[None]:
    """Returns the lock under which labels of this anchor are made. shared: for a process that writes only a part."""
    path = labels_path(store, anchor)
    return locked(path.with_name(f".{path.name}.jepa-speech.lock"), "label", shared)


def chunks(store: Store) -> list[range]:
    """Returns the recordings of each chunk, in order."""
    ends = np.cumsum(_frame_counts(store))
    number = np.concatenate([[0], ends[:-1] // CHUNK_FRAMES])
    edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(store)]
    return [range(first, last) for first, last in pairwise(edges)]


class LabelParts:
    """The unfinished labels of one anchor. A chunk is written atomically. parts: the number of parts.

    Raises UserError if the working folder or the labels' folder holds something that jepa-speech did not write.
    """

    def __init__(self, store: Store, anchor: Anchor, components: int, top_k: int, parts: int = 1):
        self.store, self.chunks, self.top_k = store, chunks(store), top_k
        name = f".{anchor.fingerprint[:12]}-{store.fingerprint[:12]}-k{top_k}"
        self.path = labels_path(store, anchor).with_name(name)
        identity = {"format": FORMAT, "anchor": anchor.fingerprint, "store": store.fingerprint}
        self._meta = identity | {"components": components, "top_k": top_k, "frames": int(_frame_counts(store).sum())}
        cut = {"meta": self._meta, "chunk_frames": CHUNK_FRAMES, "chunks": len(self.chunks)}
        with labelling(store, anchor, shared=parts > 1):
            _check_ours(labels_path(store, anchor))
            if parts == 1 and not self._planned(cut):  # another version of jepa-speech cut other chunks
                _clear(self.path)
            new = ownership.make(self.path.with_name(f"{name}.{secrets.token_hex(6)}"))
            write_json(new / "plan.json", sealed(cut | {"parts": parts}))
            try:
                new.rename(self.path)  # fails if the folder exists, even if another part has just made it
            except OSError as error:
                ownership.remove(new, NAMES)
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            if not self._planned(cut):
                raise UserError(f"{self.path}: unfinished labels of another version of jepa-speech; remove that folder")
            write_json(self.path / "plan.json", sealed(cut | {"parts": parts}))  # the number of parts may have changed

    def _planned(self, cut: dict[str, Any]) -> bool:
        """Whether a plan with these options exists."""
        if not (self.path / "plan.json").is_file():
            return False
        before = read_object(self.path / "plan.json")
        return all(before.get(key) == value for key, value in cut.items())

    def unfinished(self, part: Part = (0, 1)) -> list[int]:
        """Returns the chunks of this part that are not written yet."""
        return [
            number for number in range(part[0], len(self.chunks), part[1]) if not _chunk(self.path, number).exists()
        ]

    def write(self, number: int, ids: np.ndarray, levels: np.ndarray, pool: np.ndarray, sums: np.ndarray) -> None:
        """Writes ids, levels (n, k) and pool (n,) of all frames of a chunk, and sums (4,) for `figures`."""
        blocks, row = [], 0
        for frames in _frame_counts(self.store)[self.chunks[number]].tolist():
            for first in range(row, row + frames, BLOCK):
                here = slice(first, min(first + BLOCK, row + frames))
                blocks.append(encode(ids[here], levels[here], pool[here]))
            row += frames
        sizes = np.array([len(block) for block in blocks], np.int64)
        try:
            with replacing(_chunk(self.path, number), parents=False) as file:
                np.savez(file, blocks=np.frombuffer(b"".join(blocks), np.uint8), sizes=sizes, sums=sums)
        except FileNotFoundError as error:
            raise UserError(f"{self.path}: another process has finished these labels, or removed them") from error


def join(store: Store, path: Path) -> Path:
    """Joins the chunks in `path`; returns the folder of the labels. Raises UserError naming the unfinished parts."""
    with labelling(store, path.name[1:].partition("-")[0]):
        return _join(store, path)


def _join(store: Store, path: Path) -> Path:
    if not (path / "plan.json").is_file():
        raise UserError(f"{path}: another process has finished these labels, or removed them")
    plan = _read_plan(path / "plan.json")
    files = [_chunk(path, number) for number in range(plan["chunks"])]
    missing = sorted({number % plan["parts"] for number, file in enumerate(files) if not file.exists()})
    if missing:
        parts = ", ".join(f"{i}/{plan['parts']}" for i in missing)
        name = plan["meta"]["anchor"][:12]
        raise UserError(
            f"{store.path}: labels of anchor {name} with top_k = {plan['meta']['top_k']}: part {parts} is unfinished; "
            f"run `jepa-speech label` with --part {parts.partition(',')[0]}, or remove {path}"
        )
    joined, final = path.with_name(f"{path.name}.joined"), labels_path(store, plan["meta"]["anchor"])
    old, done = (path.with_name(f"{path.name}.{what}") for what in ("old", "done"))
    for left_over in (joined, old, done):
        _clear(left_over)
    _check_ours(final)
    ownership.make(joined)
    counts = -(-_frame_counts(store) // BLOCK)  # blocks of each recording
    blocks = [int(counts[own.start : own.stop].sum()) for own in chunks(store)]
    sizes, sums = _concatenate(files, blocks, joined / "blocks.bin")
    _save(joined / "block_start.npy", sizes)
    _save(joined / "first_block.npy", counts)
    write_json(joined / "meta.json", sealed_meta(joined, plan["meta"] | figures(sums)))
    if final.exists():  # labels with another top-k, or damaged ones
        final.replace(old)
    joined.replace(final)
    ownership.remove(old, NAMES)
    if ownership.is_marked(path) and not ownership.foreign_in(path, NAMES):
        path.rename(done)  # a process that still writes to `path` then fails instead of leaving a file
        ownership.remove(done, NAMES)
    else:
        ownership.remove(path, NAMES)  # prints which files are kept, and why
    return final


def _clear(folder: Path) -> None:
    """Removes a working folder that a killed process left. Raises UserError if it holds other files."""
    if not ownership.remove(folder, NAMES):
        raise UserError(f"{folder}: jepa-speech did not write all of this folder; move it elsewhere")


def _check_ours(final: Path) -> None:
    """Raises UserError if existing labels cannot be replaced: without a mark, or with files of another program."""
    if final.exists() and not ownership.is_marked(final):
        why = "these labels lack jepa-speech's mark; an earlier version or another program wrote them"
        raise UserError(f"{final}: {why}; remove that folder to label again")
    if final.exists() and (strange := ownership.foreign_in(final, NAMES)):
        raise UserError(f"{final} holds {strange[0]}, which jepa-speech did not write; move that elsewhere")


def merge_label_parts(store: Store) -> list[Path]:
    """Joins the parts written by `jepa-speech label --part i/n` for this store; returns the folders of the labels.

    Raises UserError naming unfinished parts. Removes chunks that were made for another version of the store.
    """
    made = []
    for plan in sorted((store.path / "labels").glob(".*-k*/plan.json")):
        folder = plan.parent
        if not UNFINISHED.fullmatch(folder.name):
            continue
        meta = _read_plan(plan)["meta"]
        if meta["store"] != store.fingerprint:
            if ownership.is_marked(folder):
                with labelling(store, folder.name[1:].partition("-")[0]):
                    ownership.remove(folder, NAMES)
        elif ownership.is_marked(folder) or not labels_path(store, meta["anchor"]).exists():
            made.append(join(store, folder))
    return made


def figures(sums: np.ndarray) -> dict[str, float]:
    """Returns the figures in `meta.json` from sums (chunks, 4) of frames, kept mass, KL and entropy."""
    frames, mass, loss, entropy = sums.sum(axis=0)
    values = mass / frames, loss / frames, entropy / frames, np.exp(entropy / frames)
    return dict(zip(FIGURES, map(float, values), strict=True))


def _chunk(path: Path, number: int) -> Path:
    return path / f"chunk-{number:06d}.npz"


def _read_plan(path: Path) -> dict[str, Any]:
    """Returns the contents of plan.json. Raises UserError if it is damaged."""
    plan, where = read_object(path), str(path)
    try:
        compare_seal(plan, ("meta", "chunk_frames", "chunks", "parts"), where)
        meta = checked.field(plan, "meta", dict, where)
        for name in ("chunks", "parts"):
            checked.field(plan, name, int, where, least=1)
        for name, kind in (("anchor", str), ("store", str), ("components", int), ("top_k", int), ("frames", int)):
            checked.field(meta, name, kind, f"{where}: meta")
    except UserError as error:
        raise UserError(f"{error}; remove {path.parent} and label again") from error
    return plan


def _concatenate(files: Sequence[Path], blocks: Sequence[int], out: Path) -> tuple[np.ndarray, np.ndarray]:
    """Appends the blocks of all files to `out`; returns the blocks' sizes (blocks,) and the files' sums (files, 4).

    blocks: number of blocks of each file. Raises UserError, naming the file, if one is damaged.
    """
    sizes, sums, again = [], [], "remove it, and label this part again"
    with out.open("wb") as joined:
        for file, count in zip(files, blocks, strict=True):
            chunk = read_npz(file, again)
            try:
                size = checked.array(chunk.get("sizes"), f"{file}: sizes", shape=(count,), kind="i", least=1)
                data = checked.array(chunk.get("blocks"), f"{file}: blocks", shape=(int(size.sum()),), kind="u")
                sums.append(checked.array(chunk.get("sums"), f"{file}: sums", shape=(4,)))
            except UserError as error:
                raise UserError(f"{error}; {again}") from error
            joined.write(data.tobytes())
            sizes.append(size)
        joined.flush()
        os.fsync(joined.fileno())
    return np.concatenate(sizes), np.array(sums)


def _save(path: Path, counts: np.ndarray) -> None:
    """Writes the cumulative sums of the counts: [0, …, total], int64."""
    with replacing(path) as file:
        np.save(file, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def _frame_counts(store: Store) -> np.ndarray:
    return grid.frames(np.asarray(store.samples, np.int64))
