"""Files of features by name, written array by array: any number of recordings takes the memory of one."""

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.files import printable

Add = Callable[[str, np.ndarray], None]
Note = Mapping[str, Any]  # plain JSON values about the file: how it was made

MARK = "written by jepa-speech: features"


class Format(NamedTuple):
    """A file format. write(file, note) yields a function that adds an array (T, D) by name; note(path) reads a note."""

    write: Callable[[BinaryIO, Note], AbstractContextManager[Add]]
    note: Callable[[Path], bytes]


def note_of(path: Path, form: Format) -> dict[str, Any] | None:
    """Returns the note of an existing file, None if there is no file. Raises UserError if `embed` did not write it."""
    if not path.exists():
        return None
    try:
        return json.loads(form.note(path).removeprefix(MARK.encode()))
    except (
        ValueError,
        RecursionError,
        OSError,
        KeyError,
        zipfile.BadZipFile,
    ) as error:  # pyarrow's errors are ValueErrors
        why = "another program or an earlier version wrote it; move it, or choose another out"
        raise UserError(f"{path} has no mark of `jepa-speech embed`: {why}") from error


def noted(note: Note) -> bytes:
    return f"{MARK} {json.dumps(note)}".encode()


@contextmanager
def npz(file: BinaryIO, note: Note) -> Iterator[Add]:
    """For each name an array (T, D), as numpy.savez writes it. The note is the archive's comment."""
    with zipfile.ZipFile(file, "w") as arrays:
        arrays.comment = noted(note)

        def add(name: str, features: np.ndarray) -> None:
            with arrays.open(f"{printable(name)}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, features, allow_pickle=False)

        yield add


def npz_note(path: Path) -> bytes:
    with zipfile.ZipFile(path) as arrays:
        return arrays.comment


@contextmanager
def parquet(file: BinaryIO, note: Note) -> Iterator[Add]:
    """A row for each name: `path`, and `features`, a list of T lists of D float32. The note is metadata.

    Raises UserError where pyarrow is missing.
    """
    pyarrow = imported()
    writer: Any = None

    def add(name: str, features: np.ndarray) -> None:
        nonlocal writer
        frames = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(features.ravel()), features.shape[1])
        whole = pyarrow.ListArray.from_arrays(pyarrow.array([0, len(features)], pyarrow.int32()), frames)
        table = pyarrow.table({"path": [printable(name)], "features": whole})
        table = table.replace_schema_metadata({"jepa_speech": noted(note)})
        if writer is None:
            writer = pyarrow.parquet.ParquetWriter(file, table.schema)
        writer.write_table(table)

    try:
        yield add
    finally:
        if writer is not None:
            writer.close()


def parquet_note(path: Path) -> bytes:
    return (imported().parquet.read_schema(path).metadata or {})[b"jepa_speech"]


def imported() -> ModuleType:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("writing parquet needs pyarrow; pip install pyarrow") from error
    return pyarrow


FORMATS = {".npz": Format(npz, npz_note), ".parquet": Format(parquet, parquet_note)}
