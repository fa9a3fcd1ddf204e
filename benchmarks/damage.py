"""Damage to files, at random but reproducible: one bit flipped, the end cut off, or the file deleted.

    done = damage(folder, np.random.default_rng(7))
    print(done)  # shards/part-00000.array_record: bit 3 of byte 1207 flipped

The damaged file is a new file with the old name, so hard links and open memory maps keep the whole contents.
"""

from collections.abc import Callable, Collection, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jepa_speech.files import replacing


class Damage(NamedTuple):
    """What was done: `kind` (a key of KINDS), the file, its name within the folder, and the rest in words."""

    kind: str
    path: Path
    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


def flip(path: Path, random: np.random.Generator) -> str:
    """Flips one bit of a file that is not empty; returns which."""
    data = bytearray(path.read_bytes())
    byte, bit = int(random.integers(len(data))), int(random.integers(8))
    data[byte] ^= 1 << bit
    _write(path, bytes(data))
    return f"bit {bit} of byte {byte} flipped"


def cut(path: Path, random: np.random.Generator) -> str:
    """Keeps only the beginning of a file that is not empty, perhaps nothing of it; returns how much."""
    data = path.read_bytes()
    kept = int(random.integers(len(data)))
    _write(path, data[:kept])
    return f"cut to {kept} of {len(data)} bytes"


def delete(path: Path, random: np.random.Generator) -> str:
    """Deletes a file."""
    path.unlink()
    return "deleted"


KINDS: dict[str, Callable[[Path, np.random.Generator], str]] = {"flip": flip, "cut": cut, "delete": delete}


def damage(
    target: str | Path, random: np.random.Generator, kinds: Sequence[str] = tuple(KINDS), spare: Collection[str] = ()
) -> Damage:
    """Damages a file, or one file of a folder; all files are equally likely, whatever their size.

    spare: patterns (fnmatch) of names within the folder that stay whole, such as "*.lock" or "labels/*".
    Empty files can only be deleted. Raises ValueError if there is no file that could be damaged.
    """
    target, kind = Path(target), kinds[int(random.integers(len(kinds)))]
    folder = target if target.is_dir() else target.parent
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if target.is_dir() else [target]
    names = {path: path.relative_to(folder).as_posix() for path in files}
    files = [path for path in files if not any(fnmatch(names[path], pattern) for pattern in spare)]
    files = [path for path in files if kind == "delete" or path.stat().st_size]
    if not files:
        raise ValueError(f"{target}: nothing there that could be damaged")
    path = files[int(random.integers(len(files)))]
    return Damage(kind, path, names[path], KINDS[kind](path, random))


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as file:
        file.write(data)
