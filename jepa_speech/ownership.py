"""Marks of files and folders. jepa-speech deletes and replaces only files and folders with its own mark.

Working folders contain an empty file named `MARK`, and names of temporary files contain the program's name. Files that
a user names (--out, --json) contain the text of `mark(kind)` in their first or last bytes.
"""

import errno
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from jepa_speech.errors import UserError
from jepa_speech.files import replacing, write_json

MARK = ".jepa-speech"
TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{12}\.jepa-speech\.tmp")
ENDS = 4096  # first and last bytes of a file in which its mark is searched


def make(folder: Path) -> Path:
    """Makes a working folder with the mark, and returns it. Raises FileExistsError if it exists."""
    folder.mkdir(parents=True)
    (folder / MARK).touch()
    return folder


def is_marked(folder: Path) -> bool:
    """Whether `folder` is a working folder made by `make`. A link to one is not."""
    return folder.is_dir() and not folder.is_symlink() and (folder / MARK).is_file()


def foreign_in(folder: Path, names: Sequence[str]) -> list[str]:
    """Returns the names in a working folder that are not its mark and do not match the patterns `names`."""
    there = sorted(path.name for path in folder.iterdir())
    return [name for name in there if name != MARK and not any(fnmatchcase(name, pattern) for pattern in names)]


def remove(folder: Path, names: Sequence[str]) -> bool:
    """Deletes a working folder made by `make`; returns whether it is gone. One line on stderr names kept files.

    names: patterns of the files and folders, relative to it, that jepa-speech writes there. A folder without the mark
    is kept, and so are files with other names.
    """
    if not os.path.lexists(folder):
        return True
    if not is_marked(folder):
        why = "it lacks jepa-speech's mark; another program or an earlier version made it"
        print(f"{folder}: kept, because {why}. Remove it if you do not need it", file=sys.stderr)
        return False
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in [*files, *folders]:
            path = Path(parent) / name
            relative = path.relative_to(folder).as_posix()
            if TEMPORARY.fullmatch(name) or any(fnmatchcase(relative, pattern) for pattern in names):
                _delete(path)
    strange = sorted(path.name for path in folder.iterdir() if path.name != MARK)
    if not strange:
        (folder / MARK).unlink(missing_ok=True)
        if _delete(folder):
            return True
        (folder / MARK).touch()  # another process has just written a file there
        strange = ["a new file"]
    what = f"{strange[0]}, which jepa-speech did not write"
    print(f"{folder}: kept, because it holds {what}; move that elsewhere, then remove the folder", file=sys.stderr)
    return False


def _delete(path: Path) -> bool:
    """Deletes a file, a link or an empty folder; returns whether it is gone. A folder that is not empty is kept."""
    try:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def remove_temporaries(folder: Path, chosen: Callable[[str], bool] = lambda name: True) -> None:
    """Deletes temporary files of killed processes in `folder`. chosen: whether to delete those of a final name."""
    for path in folder.glob(".*.jepa-speech.tmp"):
        found = TEMPORARY.fullmatch(path.name)
        if found and chosen(found[1]) and path.is_file():
            path.unlink(missing_ok=True)


def mark(kind: str) -> str:
    """Returns the mark of files of a kind ("results", "report", "picture", "features")."""
    return f"written by jepa-speech: {kind}"


def claim(path: str | Path, *marks: str | bytes) -> Path:
    """Returns `path` if it may be written. Raises UserError if it exists and jepa-speech did not write it.

    marks: an existing file must contain one of them in its first or last bytes. Without marks, no file may exist.
    """
    path = Path(path)
    if not os.path.lexists(path):
        return path
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a file; choose another name")
    if not path.exists():  # a link to a file that does not exist yet
        return path
    if not path.is_file():
        raise UserError(f"{path} is not a regular file; choose another name")
    with path.open("rb") as file:
        found = file.read(ENDS)
        file.seek(max(0, path.stat().st_size - ENDS))
        found += file.read(ENDS)
    if not any((text.encode() if isinstance(text, str) else text) in found for text in marks):
        raise UserError(
            f"{path} exists and lacks the mark of this command: another program or an earlier version of jepa-speech "
            "wrote it; choose another name, or remove it if you do not need it"
        )
    return path


def refuse_existing(folder: Path, names: Sequence[str]) -> None:
    """Raises UserError, before anything is written, if the folder holds a file of one of these names."""
    if there := next((name for name in names if os.path.lexists(folder / name)), None):
        raise already_there(str(folder), there)


def already_there(folder: str, name: str) -> UserError:
    """Returns the error of a command that would replace a file."""
    article = "an" if name[0] in "aeiou" else "a"
    return UserError(f"{folder} already has {article} {name}; choose a new folder, or remove that file")


def write_once(path: Path, contents: bytes) -> None:
    """Writes a file atomically. Raises UserError if it exists with other contents."""
    if not os.path.lexists(path):
        with replacing(path) as file:
            file.write(contents)
    elif not path.is_file() or path.read_bytes() != contents:
        raise UserError(f"{path} exists with other contents; remove it, or choose another folder")


def write_results(path: str | Path, results: Mapping[str, Any] | None) -> None:
    """Writes a JSON object with the mark of results. Raises UserError if `path` is a file without that mark."""
    write_json(claim(path, mark("results")), {"about": mark("results"), **(results or {})})
