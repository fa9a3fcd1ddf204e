"""Writes the manifests of a public corpus for probes."""

import importlib
import json
import os
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jepa_speech.errors import UserError
from jepa_speech.ownership import write_once
from jepa_speech.probing import corpora
from jepa_speech.probing.dataset import text_lines

Rows = list[dict[str, Any]]
SHOWN = 80  # characters of a line in a message

NAMES = tuple(m.name for m in pkgutil.iter_modules(corpora.__path__) if m.name not in ("listing",))


def reader(name: str) -> Any:
    """Returns the module of a corpus."""
    return importlib.import_module(f"{corpora.__name__}.{name}")


def write(name: str, root: Path, out: Path) -> dict[str, int]:
    """Writes the manifests of a corpus into `out`, with paths relative to it; returns file name -> number of rows.

    Before writing, raises UserError if a recording is missing or outside of both folders, if a manifest has no rows, or
    if a file exists with other contents.
    """
    found = reader(name).manifests(root, out)
    for file, rows in found.items():
        if not rows:
            raise UserError(f"{root}: no rows found for {file}; name the folder of {name} in its published layout")
        for row in rows:
            if isinstance(row, Mapping) and not os.path.isfile(row["audio_path"]):  # noqa: PTH113 (it never raises)
                raise UserError(f"{row['audio_path']}: no such file, but {name} lists it for {file}")
            if isinstance(row, Mapping) and not any(is_inside(row["audio_path"], folder) for folder in (root, out)):
                raise UserError(f"{row['audio_path']}: outside of {root}, but {name} lists it for {file}")
    contents = {file: text_of(rows, out) for file, rows in found.items()}
    for file, text in contents.items():
        if (out / file).exists() and (out / file).read_bytes() != text:
            raise UserError(f"{out / file} exists with other contents; remove it, or choose another folder")
    for file, text in contents.items():
        write_once(out / file, text)
    return {file: len(rows) for file, rows in found.items()}


def text_of(rows: Rows | list[str], out: Path) -> bytes:
    """Returns the text of a manifest with paths relative to `out`, or of a list of lines."""
    lines = [
        row
        if isinstance(row, str)
        else json.dumps(row | {"audio_path": os.path.relpath(row["audio_path"], out)}, ensure_ascii=False)
        for row in rows
    ]
    return "".join(f"{line}\n" for line in lines).encode("utf-8")


def lines(path: Path) -> Iterator[str]:
    """Yields the lines of a text file that are not blank. Raises UserError if it is missing or not UTF-8."""
    return (line for _, line in numbered_lines(path))


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Like `lines`, with the numbers of the lines."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; name the folder of the corpus in its published layout")
    return text_lines(path)


def another_form(path: Path, number: int, line: str, wanted: str) -> UserError:
    """Returns the error for a line that is not of the form `wanted`."""
    shown = line if len(line) <= SHOWN else line[:SHOWN] + "..."
    return UserError(f"{path}:{number}: expected {wanted}, not {shown!r}")


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path is in a folder, without following links."""
    return Path(os.path.normpath(path.absolute())).is_relative_to(os.path.normpath(folder.absolute()))


def files(folder: Path, pattern: str) -> list[Path]:
    """Returns the paths below a folder that match a pattern, in order, without hidden ones (as in `prepare`).

    On other file systems, macOS writes a ._x.wav that is not audio for each x.wav.
    """
    return sorted(
        p for p in folder.glob(pattern) if not any(part.startswith(".") for part in p.relative_to(folder).parts)
    )


def by_split(rows: Mapping[str, Rows], prefix: str = "") -> dict[str, Rows]:
    """Returns rows by the names of the manifests that tasks read, from rows by split."""
    return {f"{prefix}{split}.manifest.jsonl": part for split, part in rows.items()}
