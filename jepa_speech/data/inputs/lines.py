"""Lines of text files, gzipped or not, in bounded memory."""

import gzip
import hashlib
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jepa_speech.errors import UserError

LINE_BYTES = 16 << 20
EXPANSION = (64 << 20, 200)  # more bytes than that, and more than so many times the packed ones: a bomb


def is_bomb(expanded: int, packed: int) -> bool:
    return expanded > max(EXPANSION[0], EXPANSION[1] * packed)


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line without its end) of every line that is not blank.

    Raises UserError: cannot be read, a line of over 16 MB, a gzip that is damaged or expands absurdly.
    """
    number, read = 0, 0
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            file = gzip.GzipFile(fileobj=raw) if packed else raw
            while line := file.readline(LINE_BYTES + 1):
                number, read = number + 1, read + len(line)
                if len(line) > LINE_BYTES:
                    raise UserError(f"{path}:{number}: a line of over {LINE_BYTES >> 20} MB; is this a manifest?")
                if packed and is_bomb(read, raw.tell()):
                    raise UserError(f"{path}: expands to over {EXPANSION[1]} times its size; refused as a bomb")
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if line.strip():
                    yield number, line.rstrip(b"\r\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path}:{number + 1}: its gzip is damaged ({error}); copy it again") from error


def decoded(line: bytes) -> str:
    """Text of a line; bytes that are not UTF-8 stay recognisable, as in file names."""
    return line.decode("utf-8", "surrogateescape")


class LineIndex:
    """A text file of `KEY REST` lines, looked up by key; 16 bytes in memory for each line."""

    def __init__(self, path: Path):
        self.path = path
        hashes, offsets, at = array("Q"), array("Q"), 0
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        for line in iter(lambda: self._file.readline(LINE_BYTES), b""):
            if line.strip():
                hashes.append(self._hash(line.split(maxsplit=1)[0]))
                offsets.append(at)
            at += len(line)
        order = np.argsort(np.frombuffer(hashes, np.uint64), kind="stable")
        self._hashes = np.frombuffer(hashes, np.uint64)[order]
        self._offsets = np.frombuffer(offsets, np.uint64)[order]

    @staticmethod
    def _hash(key: bytes) -> int:
        return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")

    def get(self, key: bytes) -> str | None:
        """What stands behind the key in its first line; None if there is no such line."""
        wanted = np.uint64(self._hash(key))
        for i in range(*(np.searchsorted(self._hashes, wanted, side) for side in ("left", "right"))):
            self._file.seek(int(self._offsets[i]))
            found, _, rest = self._file.readline(LINE_BYTES).strip().replace(b"\t", b" ", 1).partition(b" ")
            if found == key:
                return decoded(rest.strip())
        return None

    def close(self) -> None:
        self._file.close()
