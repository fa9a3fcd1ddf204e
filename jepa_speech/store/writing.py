"""What a store is written with: shards, JSON lines, and one clear line when the disk is full."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from array_record.python.array_record_module import ArrayRecordWriter

from jepa_speech.errors import UserError


def json_line(row: dict[str, Any]) -> bytes:
    """One row of a JSON-lines file. A lone surrogate (in a file name that is not UTF-8) is kept as its JSON escape."""
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


@contextmanager
def shard_writer(path: Path) -> Iterator[ArrayRecordWriter]:
    """An ArrayRecord file at `path`, whole and flushed to disk at the end; a failed write is an OSError."""
    try:
        writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
        try:
            yield writer
        finally:
            writer.close()
    except RuntimeError as error:
        raise OSError(errno.EIO, str(error).partition(";")[0]) from error
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def writing(store: Path) -> Iterator[None]:
    """Turns a full disk and its kin into one clear line. Unreadable recordings do not come here: they are rejected."""
    try:
        yield
    except OSError as error:
        hint = "make room or mend that, then run the same command again to go on"
        raise UserError(f"{store}: cannot be written ({error.strerror or error}); {hint}") from error
