"""Saves the finished pieces of a long job in one file, so that the same command resumes after a kill."""

import errno
import fcntl
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from isal.isal_zlib import crc32

from jepa_speech.errors import UserError
from jepa_speech.files import parse_row
from jepa_speech.lock import NO_LOCKS

MARK = "written by jepa-speech: partial"
TRIES = 10


@contextmanager
def kept(path: Path, job: str) -> Iterator["Pieces"]:
    """Yields the pieces of a job in the file `path`. The file is removed if the block succeeds, or has no pieces.

    job: a digest of everything on which a piece depends. Raises UserError if another process uses the file, or if the
    file belongs to another job or another program.
    """
    is_new = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with _opened(path) as file:
        pieces = Pieces(file, path, job)
        try:
            yield pieces
        except BaseException:  # Ctrl-C too; it is raised again
            if not pieces.names():
                path.unlink()
                if is_new and not any(path.parent.iterdir()):
                    path.parent.rmdir()
            raise
        path.unlink()


class Pieces:
    """A file with a line that names the job, then for each piece a JSON line and the bytes of the piece.

    An incomplete or damaged piece is cut off, with everything after it.
    """

    def __init__(self, file: BinaryIO, path: Path, job: str) -> None:
        self._file, self._known = file, {}
        head = json.dumps({"mark": MARK, "job": job}).encode() + b"\n"
        first = file.readline()
        if not head.startswith(first):
            ours = first.startswith(json.dumps({"mark": MARK})[:-1].encode())
            whose = (
                "belongs to a command with another model or other options; finish that command, remove the file,"
                if ours
                else "not written by jepa-speech; move the file,"
            )
            raise UserError(f"{path}: {whose} or choose another out")
        end = len(head)
        if first != head:
            file.seek(0)
            file.truncate()
            file.write(head)
        while (piece := self._read()) is not None:
            self._known[piece["name"]] = piece | {"at": end}
            end = file.tell()
        file.seek(end)
        file.truncate()
        file.flush()

    def names(self) -> list[str]:
        return list(self._known)

    def add(self, name: str, stamp: tuple[int | str, ...], row: Mapping[str, Any], data: bytes = b"") -> None:
        """Appends a piece. stamp: of its source, such as a file's; row: plain JSON values."""
        piece = {"name": name, "stamp": list(stamp), "row": row, "bytes": len(data)}
        piece["crc"] = _crc(piece, data)
        at = self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(piece).encode() + b"\n" + data)
        self._file.flush()
        self._known[name] = piece | {"at": at}

    def row(self, name: str, stamp: tuple[int | str, ...]) -> dict[str, Any] | None:
        """Returns the row of a piece; None if there is no such piece or its source has changed."""
        piece = self._known.get(name)
        return piece["row"] if piece is not None and piece["stamp"] == list(stamp) else None

    def data(self, name: str) -> bytes:
        piece = self._known[name]
        self._file.seek(piece["at"])
        self._file.readline()
        return self._file.read(piece["bytes"])

    def _read(self) -> dict[str, Any] | None:
        line = self._file.readline()
        if not line.endswith(b"\n"):
            return None
        try:
            piece = parse_row(line, "")
        except UserError:
            return None
        if piece.keys() != {"name", "stamp", "row", "bytes", "crc"}:
            return None
        left = os.fstat(self._file.fileno()).st_size - self._file.tell()
        if not isinstance(piece["bytes"], int) or not 0 <= piece["bytes"] <= left:
            return None
        data = self._file.read(piece["bytes"])
        return piece if _crc(piece, data) == piece["crc"] else None


def _crc(piece: Mapping[str, Any], data: bytes) -> int:
    head = json.dumps([piece[name] for name in ("name", "stamp", "row", "bytes")])
    return crc32(data, crc32(head.encode()))


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Opens and locks the file, and makes it if it is missing. Tries again if another process has just removed it."""
    for attempt in range(TRIES):
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    raise UserError(f"{path}: in use by another process; wait until it ends, or stop it") from error
                if error.errno not in NO_LOCKS:
                    raise
                print(f"{path}: its file system has no locks; start no second process on it", file=sys.stderr)
            try:
                still_there = path.stat().st_ino == os.fstat(file.fileno()).st_ino
            except FileNotFoundError:
                still_there = False
            if still_there or attempt == TRIES - 1:  # inode numbers are not stable on some network file systems
                yield file
                return
