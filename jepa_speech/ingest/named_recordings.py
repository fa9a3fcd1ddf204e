"""Recordings by the names of files and folders, for what takes them one by one."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from jepa_speech.errors import UserError
from jepa_speech.ingest.audio_source import stamp_of
from jepa_speech.ingest.in_bucket import forget_listings, local_input, stamp_in_bucket
from jepa_speech.ingest.inputs.passed_over import PassedOver, sentences
from jepa_speech.ingest.inputs.suffixes import REFUSED_SUFFIXES, SUFFIXES, UNREAD_SUFFIXES
from jepa_speech.ingest.manifest import Entry, entries, is_manifest, nothing_there
from jepa_speech.local_paths import bucket_url


def named(names: str | Path | Iterable[str | Path], root: str | Path | None = None) -> list[Entry]:
    """Returns each named file, and the recordings that `prepare` would find in each folder, without repeats.

    names: paths, and URLs of buckets. An entry's `source` is its name as given, or the folder's name and its own. root:
    see `ingest.manifest.entries`.
    Raises UserError for a missing file, a manifest, a folder without recordings, and a file that cannot be a recording.
    """
    names = [names] if isinstance(names, (str, Path)) else names
    listed = list(dict.fromkeys(bucket_url(str(name)) or str(name) for name in names))
    forget_listings()
    if missing := [name for name in listed if not (bucket_url(name) or is_there(name))]:
        raise UserError(f"{missing[0]}: no such file" + (f", and {len(missing) - 1} more" if missing[1:] else ""))
    found: dict[str, Entry] = {}
    for name in listed:
        for entry in within(name, root) if is_folder(name) else [alone(name)]:
            if entry.reason:
                raise UserError(f"{entry.source}: {entry.detail} ({entry.reason}); leave it out")
            found.setdefault(entry.source, entry)
    return list(found.values())


def is_there(name: str) -> bool:
    try:
        return bool(Path(name).stat())
    except (OSError, ValueError):  # also a name that no file can have
        return False


def is_folder(name: str) -> bool:
    """Whether this is a folder; in a bucket, whether it is no object."""
    return stamp_in_bucket(name) is None if bucket_url(name) else Path(name).is_dir()


def within(folder: str, root: str | Path | None) -> list[Entry]:
    passed = PassedOver()
    if not (found := list(entries([folder], root, passed))):
        raise nothing_there([folder], passed)
    for line in sentences(passed.found):
        print(f"{folder}: {line}", file=sys.stderr)
    names = [f"{folder}/{entry.source}" if bucket_url(folder) else str(Path(folder, entry.source)) for entry in found]
    return [entry.but(source=name, manifest=None, line=None) for name, entry in zip(names, found, strict=True)]


def alone(name: str) -> Entry:
    url, suffix = bucket_url(name), PurePosixPath(name).suffix.lower()
    if not (url and suffix in SUFFIXES + REFUSED_SUFFIXES + UNREAD_SUFFIXES) and is_manifest(local_input(name)):
        raise UserError(
            f"{name}: a manifest or an archive, not a recording; name its recordings or their folder "
            "(`transcribe` reads it, as `manifest`)"
        )
    if url:
        return Entry(source=url, path=url, stamp=stamp_in_bucket(url) or ())
    path = os.fspath(Path(name).absolute())
    return Entry(source=name, path=path, stamp=stamp_of(Path(path).stat()))
