"""A folder tree of recordings; where it is LibriSpeech's, with transcript, speaker and chapter."""

import os
from collections.abc import Iterator
from pathlib import Path

from jepa_speech.data.inputs.entry import Bounds, Entry
from jepa_speech.data.inputs.librispeech import transcripts
from jepa_speech.errors import UserError

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
# Listed so that they are refused by name; passing them over would look as if all was well.
REFUSED_SUFFIXES = (".m4a", ".aac", ".wma", ".amr")


def listed(folder: Path, root: str | Path | None) -> Iterator[Entry]:
    """All recordings below `folder`, in order of their names. Links are followed as long as they stay inside."""
    bounds, visited = Bounds(folder, root), set()
    for inner, subfolders, names in os.walk(folder, onerror=_raise, followlinks=True):
        place = Path(inner).stat()
        if (place.st_dev, place.st_ino) in visited:  # a link to a folder that holds it
            subfolders.clear()
            continue
        visited.add((place.st_dev, place.st_ino))
        subfolders.sort()
        for name in list(subfolders):
            path = Path(inner, name)
            if path.is_symlink() and not bounds.hold(bounds.real(str(path))):
                subfolders.remove(name)
                yield bounds.outside(_entry(folder, path, {}))
        texts = transcripts(Path(inner), names)
        for name in sorted(names):
            # Hidden files: macOS leaves a ._x.wav that is no audio beside each x.wav on foreign disks.
            if name.lower().endswith(SUFFIXES + REFUSED_SUFFIXES) and not name.startswith("."):
                path = Path(inner, name)
                yield bounds.located(_entry(folder, path, texts.get(path.stem, {})))


def _entry(root: Path, path: Path, labels: dict[str, str]) -> Entry:
    return Entry(source=str(path.relative_to(root)), path=str(path), labels=labels)


def _raise(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error
