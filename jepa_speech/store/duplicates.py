"""Refusal of recordings that are listed more than once, with 16 bytes of memory per recording."""

import json
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jepa_speech.ingest.inputs.entry import Entry
from jepa_speech.store.writing import json_line


def listed_once(listed: Iterable[Entry], folder: Path | None = None) -> Iterator[tuple[bytes, int]]:
    """Yields (JSON line, bytes to read) of every entry; further entries of a recording are refused.

    Yields nothing until all are listed; the lines are kept in a temporary file in `folder` (by default the system's).
    Two entries are the same recording if they are the same part of the same file.
    """
    keys, weights = array("Q"), array("Q")
    with tempfile.TemporaryFile(dir=folder) as file:
        for entry in listed:
            keys.append(int.from_bytes(entry.key(), "little"))
            weights.append(entry.weight())
            file.write(json_line(entry.row()))
        file.seek(0)
        yield from zip(_refused(file, keys), weights, strict=True)


def _refused(lines: BinaryIO, keys: array) -> Iterator[bytes]:
    hashes = np.array(keys, np.uint64)
    ordered = np.sort(hashes)
    suspect = np.isin(hashes, ordered[1:][ordered[1:] == ordered[:-1]])
    first_at: dict[bytes, str] = {}
    for line, is_suspect in zip(lines, suspect, strict=True):
        if is_suspect and not (entry := Entry(**json.loads(line))).reason:
            if (identity := entry.identity()) in first_at:
                line = json_line(entry.refused("duplicate", f"the same recording as {first_at[identity]}").row())
            else:
                first_at[identity] = f"in line {entry.line} of {entry.manifest}" if entry.line else entry.source
        yield line
