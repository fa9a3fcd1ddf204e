"""The contents of a folder, to compare folders."""

from pathlib import Path


def contents(folder: Path) -> dict[str, bytes]:
    """Path from the folder on -> bytes, of all its files at any depth."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
