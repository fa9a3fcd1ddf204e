"""Audio in the rows of parquet files, read in order with one page of the file in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from jepa_speech.errors import UserError

if TYPE_CHECKING:
    import pyarrow.parquet

BATCH = 8  # rows decoded at a time
BUFFER = 1 << 20  # bytes; without a buffer, pyarrow reads a whole row group at once


def parquet_file(path: str | Path) -> "pyarrow.parquet.ParquetFile":
    """Opens a parquet file. Raises UserError if pyarrow is missing, ValueError if the file is damaged."""
    with table_errors(path):
        import pyarrow.parquet

        return pyarrow.parquet.ParquetFile(path, memory_map=False, pre_buffer=False, buffer_size=BUFFER)


@contextmanager
def table_errors(path: str | Path) -> Iterator[None]:
    """Turns pyarrow's exceptions, except OSError, into ValueError. Raises UserError if pyarrow is missing."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"{path}: reading parquet needs pyarrow; pip install pyarrow") from error
    try:
        yield
    except (ValueError, OSError):
        raise
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error


def audio_column(table: "pyarrow.parquet.ParquetFile") -> str | None:
    """Returns the column with {"bytes", "path"}, Hugging Face's embedded audio: "audio" or the first; None without."""
    import pyarrow.types

    found = [
        field.name
        for field in table.schema_arrow
        if pyarrow.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
    ]
    return "audio" if "audio" in found else next(iter(found), None)


class _Cells:
    """The audio of one row group, read in order. Reading an earlier row starts again from the first."""

    def __init__(self, path: str, group: int):
        self._table, self._group = parquet_file(path), group
        self._column = audio_column(self._table)
        self._rows: Iterator[bytes | None] = iter(())
        self._next: float = float("inf")

    def read(self, row: int) -> bytes:
        if row < self._next:
            self._rows, self._next = self._all(), 0
        while True:
            data = next(self._rows, None)
            self._next += 1
            if self._next == row + 1:
                break
        if not isinstance(data, bytes):
            raise ValueError("no audio bytes in it" if data is None else f"{type(data).__name__}, not bytes")
        return data

    def _all(self) -> Iterator[bytes | None]:
        column = f"{self._column}.bytes"
        for batch in self._table.iter_batches(BATCH, row_groups=[self._group], columns=[column], use_threads=False):
            for cell in batch.column(0).field("bytes"):
                yield cell.as_py()


@lru_cache(maxsize=1)
def _cells(path: str, stamp: tuple[int, ...], group: int) -> _Cells:
    return _Cells(path, group)  # the stamp is part of the cache's key, so a changed file is opened again


def cell_bytes(path: str, stamp: tuple[int, ...], group: int, row: int) -> bytes:
    """Returns the encoded audio of a row. Reading all rows in order takes one pass.

    Raises ValueError or OSError if the file is damaged or the row has no bytes.
    """
    with table_errors(path):
        return _cells(path, stamp, group).read(row)
