"""Lines of text files, gzipped or not, in bounded memory."""

import codecs
import gzip
import hashlib
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jepa_speech.errors import UserError

LINE_BYTES = 16 << 20
UTF8_MARK = codecs.BOM_UTF8  # some editors put it first
TO_UTF8 = "convert the file: iconv -f ENCODING -t UTF-8 OLD > NEW"
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
                if number == 1:
                    refuse_utf16(line, path)
                if len(line) > LINE_BYTES:
                    raise UserError(f"{path}:{number}: a line of over {LINE_BYTES >> 20} MB; is this a manifest?")
                if packed and is_bomb(read, raw.tell()):
                    raise UserError(f"{path}: expands to over {EXPANSION[1]} times its size; refused as a bomb")
                line = line.removeprefix(UTF8_MARK)  # joined files may have several
                if line.strip():
                    yield number, line.rstrip(b"\r\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path}:{number + 1}: its gzip is damaged ({error}); copy it again") from error


def refuse_utf16(head: bytes, path: Path) -> None:
    """Raises UserError for a text file that begins like UTF-16, because its lines do not end with a single byte."""
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise UserError(
            f"{path}:1: UTF-16 (it begins with 0x{head[:2].hex()}); {TO_UTF8.replace('ENCODING', 'UTF-16')}"
        )


def decoded(line: bytes) -> str:
    """Decodes a line that is a file's name. Bytes that are not UTF-8 become lone surrogates, as in os.fsdecode."""
    return line.decode("utf-8", "surrogateescape")


def text_of(line: bytes, where: str) -> str:
    """Decodes a line of text. Raises UserError if it is not UTF-8. where: names its file and line."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: {not_utf8(error)}") from error


def not_utf8(error: UnicodeDecodeError) -> str:
    """Returns a message for bytes that are not UTF-8, with what to do."""
    return f"not UTF-8 (byte 0x{error.object[error.start]:02x} at position {error.start + 1}); {TO_UTF8}"


class LineIndex:
    """A text file of `KEY REST` lines, looked up by key; 16 bytes in memory for each line."""

    def __init__(self, path: Path):
        self.path = path
        hashes, offsets, at = array("Q"), array("Q"), 0
        try:
            with path.open("rb") as file:
                refuse_utf16(file.read(2), path)
            self._file = path.open("rb")
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        for line in iter(lambda: self._file.readline(LINE_BYTES), b""):
            if key := _key_and_rest(line)[0]:
                hashes.append(self._hash(key))
                offsets.append(at)
            at += len(line)
        order = np.argsort(np.frombuffer(hashes, np.uint64), kind="stable")
        self._hashes = np.frombuffer(hashes, np.uint64)[order]
        self._offsets = np.frombuffer(offsets, np.uint64)[order]
        self._used = np.zeros(len(order), bool)

    @staticmethod
    def _hash(key: bytes) -> int:
        return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")

    def name(self, key: bytes) -> str | None:
        """The name of a file behind the key in its first line; None if there is no such line."""
        return decoded(found[1]) if (found := self._get(key)) else None

    def text(self, key: bytes) -> str | None:
        """The text behind the key in its first line; None if there is no such line. Raises UserError unless UTF-8."""
        if (found := self._get(key)) is None:
            return None
        try:
            return found[1].decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path}:{self._number(found[0])}: {not_utf8(error)}") from error

    def unused(self) -> tuple[int, str]:
        """How many lines were never asked for, and the key of the first of these."""
        offsets = self._offsets[~self._used]
        return len(offsets), decoded(self._line(int(offsets.min()))[0]) if len(offsets) else ""

    def _get(self, key: bytes) -> tuple[int, bytes] | None:
        """Where the key's first line begins, and what is behind the key in it."""
        wanted = np.uint64(self._hash(key))
        for i in range(*(np.searchsorted(self._hashes, wanted, side) for side in ("left", "right"))):
            found, rest = self._line(int(self._offsets[i]))
            if found == key:
                self._used[i] = True
                return int(self._offsets[i]), rest
        return None

    def _line(self, offset: int) -> tuple[bytes, bytes]:
        self._file.seek(offset)
        return _key_and_rest(self._file.readline(LINE_BYTES))

    def _number(self, offset: int) -> int:
        """The number, from 1, of the line that begins at `offset`."""
        self._file.seek(0)
        number = 1
        while self._file.tell() < offset:
            number += self._file.readline(LINE_BYTES).endswith(b"\n")
        return number

    def close(self) -> None:
        self._file.close()


def _key_and_rest(line: bytes) -> tuple[bytes, bytes]:
    key, rest = [*line.removeprefix(UTF8_MARK).split(maxsplit=1), b"", b""][:2]
    return key, rest.strip()
