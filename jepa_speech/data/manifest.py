"""Lists recordings: a folder tree, or JSON-lines manifests as other toolkits write them.

Every recording becomes an Entry. What is wrong with a line is found out here (its JSON, its path, its duration) and
kept with it; what is wrong with a file is found when it is decoded (audio.py).
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jepa_speech.errors import UserError

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
# Listed so that they are refused by name; passing them over would look as if all was well.
REFUSED_SUFFIXES = (".m4a", ".aac", ".wma", ".amr")
PATH_KEYS = ("audio_path", "wav_path", "path", "audio_filepath")
STORE_KEYS = ("id", "source")  # the store's own; a manifest's are kept as manifest_id and manifest_source


@dataclass(frozen=True)
class Entry:
    """One recording as listed. `reason` is empty unless it is already known that it cannot be used."""

    source: str  # relative to the folder, or as its manifest writes it
    path: str = ""  # absolute
    line: int | None = None  # of the manifest
    manifest: str | None = None
    stamp: tuple[int, ...] = ()  # (bytes, time of change): tells a re-run whether the file is still the same
    duration: float | None = None  # s, as the manifest claims
    labels: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    detail: str = ""


def entries(inputs: Sequence[str | Path]) -> Iterator[Entry]:
    """All recordings of folders and manifests, in an order that depends on nothing but their names and lines.

    Raises UserError for an input that is not there, or that is neither folder nor manifest.
    """
    for name in map(Path, inputs):
        if name.is_file() and name.suffix.lower() in SUFFIXES + REFUSED_SUFFIXES:
            raise UserError(f"{name}: a recording; --input takes a folder of recordings or a JSON-lines manifest")
        if not name.exists():
            raise UserError(f"{name}: no such folder or manifest")
    first_at: dict[bytes, str] = {}
    for name in (Path(name).absolute() for name in inputs):
        for entry in _folder(name) if name.is_dir() else _manifest(name):
            if not entry.reason:
                key = hashlib.blake2b(os.fsencode(os.path.normpath(entry.path)), digest_size=16).digest()
                if key in first_at:
                    entry = replace(entry, reason="duplicate", detail=f"the same file as in {first_at[key]}")
                else:
                    first_at[key] = f"line {entry.line} of {name}" if entry.line else str(name)
            yield entry


def _folder(root: Path) -> Iterator[Entry]:
    visited = set()
    for folder, subfolders, names in os.walk(root, onerror=_raise, followlinks=True):
        subfolders.sort()
        if (place := Path(folder).resolve()) in visited:  # a link to a folder that holds it
            subfolders.clear()
            continue
        visited.add(place)
        for name in sorted(names):
            path = Path(folder, name)
            # Hidden files: macOS leaves a ._x.wav that is no audio beside each x.wav on foreign disks.
            if name.lower().endswith(SUFFIXES + REFUSED_SUFFIXES) and not name.startswith("."):
                yield _with_stamp(Entry(source=str(path.relative_to(root)), path=str(path)))


def _raise(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error


def _manifest(path: Path) -> Iterator[Entry]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _row(path, number, line.removeprefix(b"\xef\xbb\xbf"))
    except OSError as error:
        _raise(error)


def _row(manifest: Path, number: int, line: bytes) -> Entry:
    def refuse(reason: str, detail: str, source: str = "") -> Entry:
        return Entry(source, line=number, manifest=str(manifest), reason=reason, detail=detail)

    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError: also bytes that are not UTF-8
        return refuse("bad_json", str(error))
    if not isinstance(row, dict):
        return refuse("not_an_object", f"a JSON object was expected, not {type(row).__name__}")
    source = next((row[key] for key in PATH_KEYS if row.get(key)), None)
    if not isinstance(source, str):
        return refuse("no_audio_path", f"none of {', '.join(PATH_KEYS)} names a file")
    duration = row.get("duration")
    if duration is not None:
        number_like = isinstance(duration, (int, float)) and not isinstance(duration, bool)
        if not number_like or not 0 < duration < 1e9:  # false for NaN, too
            return refuse("bad_duration", f"duration {duration!r} is not a positive number of seconds", source)
    labels = {
        f"manifest_{key}" if key in STORE_KEYS else key: value
        for key, value in row.items()
        if value is not None and key not in (*PATH_KEYS, "duration")
    }
    path = str(manifest.parent / source)
    return _with_stamp(Entry(source, path, number, str(manifest), duration=duration, labels=labels))


def _with_stamp(entry: Entry) -> Entry:
    try:
        status = Path(entry.path).stat()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
        return replace(entry, reason=reason, detail=str(error))
    return replace(entry, stamp=(status.st_size, status.st_mtime_ns))
