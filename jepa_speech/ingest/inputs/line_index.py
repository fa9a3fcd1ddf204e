"""Lookup of lines by key in a text file, with 16 bytes in memory per line."""

import hashlib
import tempfile
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.ingest.inputs.lines import LINE_BYTES, UTF8_MARK, decoded, lines, not_utf8, refuse_utf16

Split = Callable[[bytes], tuple[bytes, bytes]]  # a line -> its key (b"" if it has none), and the rest


class Twice(UserError):
    """Raised if two lines have the same key and different contents."""


class LineIndex:
    """A file of keyed lines, by default `KEY REST`."""

    def __init__(
        self,
        path: Path,
        file: BinaryIO | None = None,
        split: Split | None = None,
        numbers: Sequence[int] | None = None,
    ):
        """Reads the keys of all lines.

        Args:
            path: the file, and its name in messages.
            file: an open file with the lines, if they differ from those of `path`.
            split: splits a line into key and rest.
            numbers: the line number in `path`, from 1, of each line of `file`, if they differ.
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
        """Returns the index of a file that may be gzipped. Its lines are copied to a temporary file."""
        file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        written = 0
        for number, line in lines(path):  # `lines` skips blank lines; they are written to keep the line numbers
            file.write(b"\n" * (number - 1 - written) + line + b"\n")
            written = number
        return cls(path, file, split)

    def name(self, key: bytes) -> str | None:
        """Returns the file name after the key; None if there is no such line. Raises Twice."""
        return decoded(found[1]) if (found := self.get(key)) else None

    def text(self, key: bytes) -> str | None:
        """Returns the text after the key; None if there is no such line. Raises Twice, and UserError unless UTF-8."""
        if (found := self.get(key)) is None:
            return None
        try:
            return found[1].decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path}:{self._number(found[0])}: {not_utf8(error)}") from error

    def unused(self) -> tuple[int, str]:
        """Returns the number of lines that were never looked up, and the key of the first of them."""
        offsets = self._offsets[~self._used]
        return len(offsets), decoded(self._line(int(offsets.min()))[0]) if len(offsets) else ""

    def get(self, key: bytes) -> tuple[int, bytes] | None:
        """Returns the offset of the key's first line and its contents after the key; None if there is no such line.

        Raises Twice if the key has several lines that differ.
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
        """Returns the number in `path`, from 1, of the line that begins at `offset`."""
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
