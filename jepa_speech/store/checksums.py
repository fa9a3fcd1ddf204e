"""Checksums: CRC-32 of files, to detect damage, and hashes of samples, to find duplicates."""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from isal.isal_zlib import crc32

from jepa_speech.errors import UserError

BLOCK = 4 << 20  # bytes read at a time
DIGEST_BYTES = 16  # bytes of a SHA-256; any two of 10^9 recordings agree by chance with probability 10^-21


def file_crc(path: str | Path) -> int:
    """Returns the CRC-32 of a file, which is read in blocks. Raises OSError."""
    crc = 0
    with Path(path).open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            crc = crc32(block, crc)
    return crc


def content_hash(wave: np.ndarray) -> bytes:
    """Returns the hash of a standardised waveform, int16 (S,). It does not depend on the codec of the store."""
    return hashlib.sha256(np.ascontiguousarray(wave, "<i2").data).digest()[:DIGEST_BYTES]


def fingerprint(digest: np.ndarray) -> str:
    """Returns the hash of recordings in order, from the hash of each, (N, 16) uint8."""
    return hashlib.sha256(np.ascontiguousarray(digest).data).hexdigest()


def sealed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a JSON file with a field `crc`: their CRC-32, which does not depend on order or layout."""
    return {**fields, "crc": _fields_crc(fields)}


def compare_seal(fields: Mapping[str, Any], older: Collection[str], where: str) -> None:
    """Raises UserError if the fields of the JSON file `where` do not match their `crc` (see `sealed`).

    older: the fields of files of earlier versions. A file that has only these may lack a `crc`.
    """
    if "crc" in fields:
        if fields["crc"] != _fields_crc(fields):
            raise UserError(f"{where}: damaged (its fields do not match its crc)")
    elif unknown := sorted(fields.keys() - set(older)):
        raise UserError(f"{where}: damaged (it has a field {unknown[0][:40]!r} but no crc)")


def _fields_crc(fields: Mapping[str, Any]) -> int:
    rest = {name: value for name, value in fields.items() if name != "crc"}
    return crc32(json.dumps(rest, sort_keys=True).encode())
