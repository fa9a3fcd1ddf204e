"""Size and CRC-32 of every file of a checkpoint, in its checksums.json, because orbax keeps none of array data.

A CRC-32 finds every single flipped bit and misses other damage once in 4 billion cases. It costs a third of a SHA-256,
and protects against broken disks and partial copies, not against an attacker.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from isal.isal_zlib import crc32

from jepa_speech.errors import UserError
from jepa_speech.files import read_json, read_object, write_json

NAME = "checksums.json"
# Saved in _CHECKPOINT_METADATA, so that a checkpoint that lost its checksums.json differs from one that never had any.
MARK = {"checksums": NAME}
# The files that orbax writes last, at the commit; their checksums are added later.
AT_COMMIT = ("_CHECKPOINT_METADATA", "commit_success.txt")
PARTS = ("weights", "progress")
# Files without which a checkpoint cannot be read, for checkpoints without checksums.
NEEDED = (AT_COMMIT[0], *(f"{part}/{name}" for part in PARTS for name in ("_METADATA", "manifest.ocdbt", "d")))
BLOCK = 2**20  # bytes


def write_checksums(folder: Path) -> None:
    """Writes checksums.json for all files of a checkpoint except AT_COMMIT, which still change."""
    files = (path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    record(folder, {name: checksum(names[name]) for name in names if name not in AT_COMMIT})


def complete_checksums(folder: Path) -> None:
    """Adds AT_COMMIT to the checksums of a committed checkpoint, if they are not among them."""
    sums = recorded(folder)
    if AT_COMMIT[0] not in sums:
        record(folder, sums | {name: checksum(folder / name) for name in AT_COMMIT})


def has_checksums(folder: Path) -> bool:
    """Whether a checkpoint was saved with checksums; those of earlier versions were not."""
    if (folder / NAME).is_file():
        return True
    try:
        return f'"{NAME}"'.encode() in (folder / AT_COMMIT[0]).read_bytes()
    except OSError:
        return False


def damage(folder: Path, part: str = "") -> str | None:
    """Returns what is wrong with the files of a checkpoint, in words; None if each byte is as it was saved.

    part: check only files whose names begin with it. For a checkpoint without checksums, checks only that the files of
    NEEDED exist.
    """
    if not has_checksums(folder):
        missing = [name for name in NEEDED if not part and not (folder / name).exists()]
        return f"{missing[0]} is missing" if missing else None
    try:
        sums = recorded(folder)
    except UserError as error:
        return str(error)
    for name, (size, crc) in sums.items():
        if name.startswith(part) and (wrong := difference(folder, name, size, crc)):
            return wrong
    if AT_COMMIT[0] not in sums and not part:  # killed after the commit; orbax needs both files
        return marked(folder)
    return None


def record(folder: Path, sums: Mapping[str, Sequence[int]]) -> None:
    """Writes checksums.json: size and CRC-32 by the names of files in the folder, and a CRC-32 of these."""
    files = {name: list(sums[name]) for name in sorted(sums)}
    write_json(folder / NAME, {"files": files, "crc": crc_of(files)})


def recorded(folder: Path) -> dict[str, tuple[int, int]]:
    """Returns size and CRC-32 by file name. Raises UserError if checksums.json is missing or damaged."""
    if not (folder / NAME).is_file():
        raise UserError(f"{NAME} is missing")
    try:
        found = read_json(folder / NAME)
    except UserError as error:
        raise UserError(f"{NAME} is not what was written") from error
    files = found.get("files") if isinstance(found, dict) else None
    if (
        not isinstance(files, dict)
        or not files
        or found.get("crc") != crc_of(files)
        or not all(map(is_entry, files.items()))
    ):
        raise UserError(f"{NAME} is not what was written")
    return {name: (size, crc) for name, (size, crc) in files.items()}


def crc_of(files: Mapping[str, Any]) -> int:
    return crc32(json.dumps(files, sort_keys=True).encode())


def is_entry(item: tuple[str, Any]) -> bool:
    """Whether (name, [size, crc]) are a path within the folder and two whole numbers."""
    name, sums = item
    inside = not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
    return inside and isinstance(sums, list) and [type(value) for value in sums] == [int, int]


def difference(folder: Path, name: str, size: int, crc: int) -> str | None:
    """How a file differs from what was saved, in words; None if it does not."""
    path = folder / name
    if not path.is_file():  # reading a pipe would block
        return f"{name} is missing"
    try:
        if (found := path.stat().st_size) != size:
            return f"{name} has {found:,} bytes, not {size:,}"
        return None if checksum(path) == (size, crc) else f"{name} holds other bytes than were saved"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"


def marked(folder: Path) -> str | None:
    """What is wrong with the files that orbax wrote at the commit, as far as it can be known without checksums."""
    for name in AT_COMMIT:
        if not (folder / name).is_file():
            return f"{name} is missing"
    try:
        whole = read_object(folder / AT_COMMIT[0]).get("custom_metadata") == MARK
    except UserError:
        whole = False
    return None if whole else f"{AT_COMMIT[0]} is not what was written"


def checksum(path: Path) -> tuple[int, int]:
    """Size in bytes and CRC-32 of a file."""
    size, crc, block = 0, 0, bytearray(BLOCK)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            size, crc = size + count, crc32(memoryview(block)[:count], crc)
    return size, crc
