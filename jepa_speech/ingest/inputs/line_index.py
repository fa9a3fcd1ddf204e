"""Text files of keyed lines, looked up by key; 16 bytes in memory for each line."""

import hashlib
import tempfile
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.ingest.inputs.lines import LINE_BYTES, UTF8_MARK, decoded, lines, not_utf8, refuse_utf16

Split = Callable[[bytes], tuple[bytes, bytes]]  # a line -> its key, b"" if it has none, and the rest


class Twice(UserError):
    """Two lines give one key different contents."""


class LineIndex:
    """A file of keyed lines, by default `KEY REST`."""

    def __init__(
        self,
        path: Path,
        file: BinaryIO | None = None,
        split: Split | None = None,
        numbers: Sequence[int] | None = None,
    ):
        """file: an open file with the lines, for contents that are not those of `path` as it is. numbers: the line of
        `path`, from 1, that each line of `file` comes from, unless it is the same.
        """
        self.path, self._numbers = path, numbers
        self._split = split or key_and_rest
        hashes, offsets, at = array("Q"), array("Q"), 0
        try:
            if file is None:
                with path.open("rb") as head:
                    refuse_utf16(head.read(4), path)
            self._file = file or path.open("rb")
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        self._file.seek(0)
        for line in iter(lambda: self._file.readline(LINE_BYTES), b""):
            if key := self._split(line)[0]:
                hashes.append(_hash(key))
                offsets.append(at)
            at += len(line)
        order = np.argsort(np.frombuffer(hashes, np.uint64), kind="stable")
        self._hashes = np.frombuffer(hashes, np.uint64)[order]
        self._offsets = np.frombuffer(offsets, np.uint64)[order]
        self._used = np.zeros(len(order), bool)

    @classmethod
    def of_any(cls, path: Path, split: Split | None = None) -> "LineIndex":
        """Returns the index of a file that may be gzipped, whose lines are then unpacked into a nameless file."""
        file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        written = 0
        for number, line in lines(path):  # which leaves out blank lines; here they keep the numbers of the others
            file.write(b"\n" * (number - 1 - written) + line + b"\n")
            written = number
        return cls(path, file, split)

    def name(self, key: bytes) -> str | None:
        """Returns the name of a file behind the key; None if there is no such line. Raises Twice."""
        return decoded(found[1]) if (found := self.get(key)) else None

    def text(self, key: bytes) -> str | None:
        """Returns the text behind the key; None if there is no such line. Raises Twice, and UserError unless UTF-8."""
        if (found := self.get(key)) is None:
            return None
        try:
            return found[1].decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path}:{self._number(found[0])}: {not_utf8(error)}") from error

    def unused(self) -> tuple[int, str]:
        """How many lines were never asked for, and the key of the first of these."""
        offsets = self._offsets[~self._used]
        return len(offsets), decoded(self._line(int(offsets.min()))[0]) if len(offsets) else ""

    def get(self, key: bytes) -> tuple[int, bytes] | None:
        """Returns where the key's first line begins, and what is behind the key in it; None if there is no such line.

        Raises Twice if lines of the key differ.
        """
        wanted = np.uint64(_hash(key))
        first: tuple[int, bytes] | None = None
        for i in range(*(np.searchsorted(self._hashes, wanted, side) for side in ("left", "right"))):
            found, rest = self._line(int(self._offsets[i]))
            if found != key:
                continue
            self._used[i] = True
            if first and rest != first[1]:
                numbers = " and ".join(str(self._number(at)) for at in (first[0], int(self._offsets[i])))
                raise Twice(f"{decoded(key)} is in {self.path} with different contents, lines {numbers}; keep one")
            first = first or (int(self._offsets[i]), rest)
        return first

    def _line(self, offset: int) -> tuple[bytes, bytes]:
        self._file.seek(offset)
        return self._split(self._file.readline(LINE_BYTES))

    def _number(self, offset: int) -> int:
        """Returns the number, from 1, that the line which begins at `offset` has in `path`."""
        self._file.seek(0)
        number = 1
        while self._file.tell() < offset:
            number += self._file.readline(LINE_BYTES).endswith(b"\n")
        return self._numbers[number - 1] if self._numbers else number

    def close(self) -> None:
        self._file.close()


def key_and_rest(line: bytes) -> tuple[bytes, bytes]:
    """Splits a line at its first blank."""
    key, rest = [*line.removeprefix(UTF8_MARK).split(maxsplit=1), b"", b""][:2]
    return key, rest.strip()


def _hash(key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")
