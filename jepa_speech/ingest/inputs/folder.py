"""A folder tree of recordings, with labels from Hugging Face's metadata or a public corpus's layout (trees.py)."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from jepa_speech.errors import UserError
from jepa_speech.ingest.inputs import metadata
from jepa_speech.ingest.inputs.entry import Entry
from jepa_speech.ingest.inputs.passed_over import PassedOver
from jepa_speech.ingest.inputs.reading import Reading
from jepa_speech.ingest.inputs.suffixes import REFUSED_SUFFIXES, SUFFIXES, UNREAD_SUFFIXES
from jepa_speech.ingest.inputs.trees import Trees

BESIDE = (".ctm", ".eaf", ".json", ".lab", ".phn", ".srt", ".textgrid", ".trn", ".txt", ".vtt", ".wrd")
MANIFESTS = (".jsonl", ".jsonl.gz", ".ndjson", ".tsv", ".csv", ".tsv.gz", ".csv.gz")
ARCHIVES = (".tar", ".tgz", ".tar.gz", ".zip", ".7z", ".parquet", ".wav.gz", ".flac.gz")


def listed(folder: Path, reading: Reading) -> Iterator[Entry]:
    """Yields all recordings below `folder`, in order of their names. Links are followed as long as they stay inside.

    Hidden files and folders below it are left out; `folder` itself may be hidden. A link counts by its own name,
    because git-annex links names to files in .git/annex/objects.
    """
    with closing(Trees(reading.passed)) as trees:
        yield from _walked(folder, reading, trees)


def _walked(folder: Path, reading: Reading, trees: Trees) -> Iterator[Entry]:
    bounds, passed, visited = reading.bounds(folder), reading.passed, set()
    in_rows: set[int] = set()  # hashes of the paths that metadata names
    for entry in _from_above(folder, reading):
        in_rows.add(hash(os.path.normpath(entry.path)))
        yield entry
    for inner, subfolders, names in os.walk(folder, onerror=_raise, followlinks=True):
        place = Path(inner).stat()
        if (place.st_dev, place.st_ino) in visited:  # a link to one of its parents
            subfolders.clear()
            continue
        visited.add((place.st_dev, place.st_ino))
        below = f"{Path(inner).relative_to(folder)}/".removeprefix("./")
        names.sort()
        subfolders.sort()
        for name in filter(is_hidden, subfolders):
            passed.add("hidden", "folders", below + name)
        subfolders[:] = [name for name in subfolders if not is_hidden(name)]
        for name in list(subfolders):
            path = Path(inner, name)
            if path.is_symlink() and not bounds.hold(bounds.real(str(path))):
                subfolders.remove(name)
                yield bounds.outside(_entry(folder, path, {}))
        if rows := metadata.of(Path(inner), names):
            for entry in metadata.READERS[rows.name](rows, reading):
                in_rows.add(hash(os.path.normpath(entry.path)))
                yield entry.but(source=below + entry.source) if entry.source else entry
        recordings = [name for name in names if is_recording(name, below + name, passed)]
        stems = {Path(name).stem for name in recordings}
        for name in names if not rows else [name for name in names if name != rows.name]:
            if kind := _not_read(name, stems):
                passed.add(kind, Path(name).suffix.lower(), below + name)
        labels = trees.labels(Path(inner), names, stems)
        for name in recordings:
            path = Path(inner, name)
            if hash(os.path.normpath(path)) not in in_rows:
                yield bounds.located(_entry(folder, path, labels.get(path.stem, {})))


def _from_above(folder: Path, reading: Reading) -> Iterator[Entry]:
    """Yields the recordings of a folder that metadata above it name, and the metadata's wrong rows if there are any."""
    folder, bounds = Path(os.path.normpath(folder)), reading.bounds(folder)
    wrong, names_any = [], False
    rows = metadata.above(folder)
    for entry in metadata.READERS[rows.name](rows, reading) if rows else ():
        path = Path(os.path.normpath(entry.path))
        if not entry.path:
            wrong.append(entry)
        elif path.is_relative_to(folder):
            names_any, entry = True, entry.but(source=str(path.relative_to(folder)))
            known = entry.reason not in ("", "outside_root")  # the folder may be a link
            yield entry if known else bounds.located(entry.but(reason="", detail=""))
    yield from wrong if names_any else ()


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden by its name. macOS writes a ._x.wav that is not audio for each x.wav."""
    return name.startswith(".") and name not in (".", "..")


def is_recording(name: str, place: str, passed: PassedOver) -> bool:
    """Whether to list a file of this name. Other audio is counted in `passed`, with the name `place`."""
    lower = name.lower()
    listed = lower.endswith(SUFFIXES + REFUSED_SUFFIXES)
    if listed and is_hidden(name):
        passed.add("hidden", "files", place)
    elif lower.endswith(UNREAD_SUFFIXES) and not is_hidden(name):
        passed.add("suffix", Path(lower).suffix, place)
    return listed and not is_hidden(name)


def _not_read(name: str, stems: set[str]) -> str:
    """Returns the kind (see passed_over.py) of a file that is counted as left out; "" for others.

    stems: the names of the folder's recordings without their suffixes.
    """
    if is_hidden(name):
        return ""
    if name.lower().endswith(ARCHIVES):
        return "archive"
    if name.lower().endswith(MANIFESTS):
        return "manifest"
    is_beside = name.lower().endswith(BESIDE) and bool(stems & {Path(name).stem, name.partition(".")[0]})
    return "beside" if is_beside else ""


def _entry(root: Path, path: Path, labels: dict[str, str]) -> Entry:
    return Entry(source=str(path.relative_to(root)), path=str(path), labels=labels)


def _raise(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error
