"""One process at a time: a lock that the operating system holds, so that a kill leaves none behind."""

import errno
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jepa_speech.errors import UserError

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def locked(path: str | Path, work: str) -> Iterator[None]:
    """Holds the lock file `path` while the block runs; the file stays, since deleting it would let two in.

    work: what this process does to the folder, such as "train". Raises UserError, naming host and process, if another
    process holds the lock. On a file system without locks, one line on stderr says so and the block runs unlocked.

    A POSIX record lock: NFS servers know it, and child processes do not inherit it. It does not exclude a second lock
    of the same process.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                print(f"{path.parent}: its file system has no locks; start no second process on it", file=sys.stderr)
                yield
                return
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            holder = file.read().strip() or "another process"
            raise UserError(f"{path.parent}: in use by {holder}; wait until it ends, or stop it") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} ({work})\n")
        file.flush()
        yield
