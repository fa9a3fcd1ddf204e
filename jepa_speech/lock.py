"""Locks between processes, held by the operating system, so that a killed process leaves none."""

import errno
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jepa_speech.errors import UserError

LOCK = ".jepa-speech.lock"  # lock file of a folder; for an item in it: .NAME.jepa-speech.lock
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
FULL = (errno.ENOSPC, errno.EDQUOT)

_held: dict[tuple[int, int, int], int] = {}  # (process, device, inode) -> number of nested locks of this process


@contextmanager
def locked(path: str | Path, work: str, shared: bool = False) -> Iterator[None]:
    """Locks the file `path` while the block runs. The file is not deleted, which would let two processes in.

    work: what this process does, such as "train", for the message to other processes. shared: exclude only processes
    that lock without `shared`. A nested block of the same process and file is covered by the outer lock. Raises
    UserError, naming host and process, if another process holds the lock. On a file system without locks, the block
    runs unlocked, with one line on stderr.

    This is a POSIX record lock, which NFS supports and child processes do not inherit. The system releases it when the
    process closes any descriptor of the file, so a nested block opens none.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if (key := _key(path)) in _held:
        with _counted(key):
            yield
        return
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        holder = os.read(file, 1000).decode("utf-8", "replace").strip()
        if holder and not holder.startswith("process "):
            raise UserError(
                f"{path} was not written by jepa-speech, which needs this name for a lock; move the file elsewhere"
            )
        try:
            fcntl.lockf(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                print(f"{path.parent}: its file system has no locks; start no second process on it", file=sys.stderr)
                yield
                return
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            what = f"in use by {holder or 'another process'}; wait until it ends, or stop it"
            raise UserError(f"{path.parent}: {what}") from error
        _name_holder(file, f"process {os.getpid()} on {socket.gethostname()} ({work})" + " or another" * shared)
        try:
            with _counted(_key(path)):
                yield
        finally:
            if not shared:  # another process may still hold it
                os.ftruncate(file, 0)
    finally:
        os.close(file)


def _key(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return os.getpid(), 0, 0
    return os.getpid(), found.st_dev, found.st_ino


@contextmanager
def _counted(key: tuple[int, int, int]) -> Iterator[None]:
    _held[key] = _held.get(key, 0) + 1
    try:
        yield
    finally:
        _held[key] -= 1
        if not _held[key]:
            del _held[key]


def _name_holder(file: int, line: str) -> None:
    """Writes the holder of the lock. A full disk is no error, because the line is only used in messages."""
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, f"{line}\n".encode(), 0)
    except OSError as error:
        if error.errno not in FULL:
            raise
