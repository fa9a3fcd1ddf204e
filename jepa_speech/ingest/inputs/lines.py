"""Lines of text files, gzipped or not, in bounded memory."""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from jepa_speech.errors import UserError

LINE_BYTES = 16 << 20
UTF8_MARK = codecs.BOM_UTF8  # some editors write it at the start of a file
# UTF-32 first, because its mark for little-endian begins with that of UTF-16.
WIDE = {
    "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}
FILE_BYTES = 1 << 30  # most bytes of a file that is one JSON value
TO_UTF8 = "convert the file: iconv -f ENCODING -t UTF-8 OLD > NEW"
EXPANSION = (64 << 20, 200)  # a file that unpacks to more bytes, and to more than this many times its size, is a bomb


def is_bomb(expanded: int, packed: int) -> bool:
    return expanded > max(EXPANSION[0], EXPANSION[1] * packed)


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields (number from 1, line without its end) of every line that is not blank.

    Raises UserError if the file cannot be read, has a line over 16 MB, or is a damaged gzip or a gzip bomb.
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
                line = line.removeprefix(UTF8_MARK)  # concatenated files may have several
                if line.strip():
                    yield number, line.rstrip(b"\r\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path}:{number + 1}: its gzip is damaged ({error}); copy it again") from error


def whole(path: Path) -> str:
    """Returns the text of a file, gzipped or not, without a byte order mark.

    Raises UserError if the file cannot be read, is over 1 GB or not UTF-8, or is a damaged gzip or a gzip bomb.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            file, data = gzip.GzipFile(fileobj=raw) if packed else raw, bytearray()
            while (part := file.read(LINE_BYTES)) and len(data) <= FILE_BYTES:
                data += part
                if packed and is_bomb(len(data), raw.tell()):
                    raise UserError(f"{path}: expands to over {EXPANSION[1]} times its size; refused as a bomb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path}: its gzip is damaged ({error}); copy it again") from error
    if len(data) > FILE_BYTES:
        raise UserError(f"{path}: over {FILE_BYTES >> 30} GB of JSON in one value; write one object per line")
    refuse_utf16(data, path)
    try:
        return data.removeprefix(UTF8_MARK).decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: {not_utf8(error)}") from error


def refuse_utf16(head: bytes | bytearray, path: Path) -> None:
    """Raises UserError for a text that begins like UTF-16 or UTF-32, in which a line end is more than one byte."""
    for name, marks in WIDE.items():
        for mark in marks:
            if head.startswith(mark):
                raise UserError(
                    f"{path}:1: {name} (it begins with 0x{mark.hex()}); {TO_UTF8.replace('ENCODING', name)}"
                )


def decoded(line: bytes) -> str:
    """Decodes a line that is a file name. Bytes that are not UTF-8 become lone surrogates, as in os.fsdecode."""
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
