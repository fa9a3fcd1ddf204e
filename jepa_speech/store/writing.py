"""Writing of shards and JSON lines, and the error for a full disk."""

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
    """Encodes a row of a JSON-lines file. A lone surrogate (from a file name that is not UTF-8) is escaped."""
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


@contextmanager
def shard_writer(path: Path) -> Iterator[ArrayRecordWriter]:
    """Opens a new ArrayRecord file, and flushes it to disk at the end. Raises OSError if writing fails."""
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
    """Turns OSError (such as a full disk) into UserError. Unreadable recordings are rejected and do not end here."""
    try:
        yield
    except OSError as error:
        hint = "free space or fix the cause, then run the same command again to resume"
        raise UserError(f"{store}: cannot be written ({error.strerror or error}); {hint}") from error
