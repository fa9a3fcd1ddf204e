"""The sidecars of an archive, looked up by the names of recordings, with about 40 bytes in memory each."""

import hashlib
import os
import tarfile
from array import array
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from jepa_speech.files import loads
from jepa_speech.ingest.inputs.lines import UTF8_MARK, not_utf8

SUFFIXES = (".txt", ".json")  # if both give a field, .json wins
MOST_BYTES = 1 << 20


class WrongSidecar(ValueError):
    """A sidecar that cannot be read."""


class Sidecars:
    """The .json and .txt members of an archive, in any order, and the recordings to which they belong.

    Names match up to their last dot (a.b.flac, a.b.json). If no recording with several dots in its name has a sidecar
    in this sense, names match up to their first dot, as in webdataset (a.audio.flac, a.text.txt). Of several sidecars
    with one suffix, only the one that matches up to the last dot is then used.
    """

    def __init__(self) -> None:
        # Of each sidecar: hashes of the name up to the last and up to the first dot, suffix, offset and size.
        self._stems, self._keys, self._suffixes = array("Q"), array("Q"), array("B")
        self._offsets, self._sizes = array("Q"), array("q")
        self._dotted = array("Q")  # hashes of recordings' names up to the last dot, if they have several dots

    def add(self, member: tarfile.TarInfo, path: PurePosixPath) -> None:
        stem, key = _hashes(path)
        self._stems.append(stem)
        self._keys.append(key)
        self._suffixes.append(SUFFIXES.index(path.suffix.lower()))
        self._offsets.append(member.offset_data)
        is_plain = member.isreg() and not member.issparse() and member.size <= MOST_BYTES
        self._sizes.append(member.size if is_plain else -1)

    def add_recording(self, path: PurePosixPath) -> None:
        stem, key = _hashes(path)
        if stem != key:
            self._dotted.append(stem)

    def close(self) -> None:
        """Prepares lookups, after all members of the archive have been added."""
        stems = np.array(self._stems, np.uint64)
        self._by_first_dot = not np.isin(np.array(self._dotted, np.uint64), stems).any()
        keys = np.array(self._keys, np.uint64) if self._by_first_dot else stems
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]
        self._used = np.zeros(len(keys), bool)

    def labels(self, path: PurePosixPath, file: int) -> dict[str, Any]:
        """Returns the labels in the sidecars of a recording. Raises WrongSidecar."""
        said: dict[str, Any] = {}
        for i in self._of(path):
            self._used[i] = True
            suffix, size = SUFFIXES[self._suffixes[i]], self._sizes[i]
            if size < 0:
                raise WrongSidecar(f"its {suffix} is not a regular file of up to {MOST_BYTES >> 20} MB")
            try:
                said |= _read(suffix, os.pread(file, size, self._offsets[i]))
            except UnicodeDecodeError as error:
                raise WrongSidecar(f"its {suffix}: {not_utf8(error)}") from error
            except ValueError as error:
                raise WrongSidecar(f"its {suffix}: {error}") from error
        return said

    def unused(self) -> tuple[int, int]:
        """Returns the number of sidecars without a recording, and the offset of the first (-1 if there is none)."""
        offsets = np.array(self._offsets, np.uint64)[~self._used]
        return len(offsets), int(offsets.min()) if len(offsets) else -1

    def _of(self, path: PurePosixPath) -> list[int]:
        stem, key = _hashes(path)
        wanted = np.uint64(key if self._by_first_dot else stem)
        first, end = (np.searchsorted(self._sorted, wanted, side) for side in ("left", "right"))
        chosen = []
        for suffix in range(len(SUFFIXES)):
            found = [i for i in self._order[first:end].tolist() if self._suffixes[i] == suffix]
            if len(found) > 1:
                found = [i for i in found if self._stems[i] == stem][-1:]  # in a tar, the last member of a name counts
            chosen += found
        return chosen


def _hashes(path: PurePosixPath) -> tuple[int, int]:
    """Returns hashes of a member's name up to its last dot and up to its first dot."""
    names = path.stem, path.name.partition(".")[0]
    digests = (
        hashlib.blake2b(str(path.parent / name).encode("utf-8", "surrogateescape"), digest_size=8).digest()
        for name in names
    )
    stem, key = (int.from_bytes(digest, "little") for digest in digests)
    return stem, key


def _read(suffix: str, data: bytes) -> dict[str, Any]:
    if suffix == ".txt":
        return {"text": data.removeprefix(UTF8_MARK).decode("utf-8").strip()}
    row = loads(data)
    return row if isinstance(row, dict) else {"label": row}
