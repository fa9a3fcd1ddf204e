"""Reads and writes NumPy's .npy (memory-mapped) and .npz files, and detects damage.

It is stricter than `numpy.load`. Only numbers and text are read, never objects. A file must be exactly as long as its
header says. Every member of an .npz is read to its end, where `zipfile` compares its CRC-32: `numpy.load` would accept
a damaged header with fewer values.
"""

import io
import math
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from isal.isal_zlib import crc32

from jepa_speech.errors import UserError
from jepa_speech.files import replacing

# The header that NumPy writes for plain types.
HEADER = re.compile(
    rb"\{'descr': '([<>|][biufcU]\d{1,6})', 'fortran_order': (True|False), 'shape': \(([\d, ]*)\), \} *\n"
)
LENGTHS = {1: "<H", 2: "<I", 3: "<I"}  # major version of the format -> how the header's length is packed
CRC = b"CRC-32 %08x"  # written by `write_npy` after the array, where numpy.load ignores it
CRC_BYTES = len(CRC % 0)


def write_npy(path: str | Path, array: np.ndarray) -> None:
    """Writes an array and the CRC-32 of its file, atomically."""
    array, header = np.ascontiguousarray(array), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    with replacing(path) as file:
        file.write(header.getvalue())
        file.write(array.data)
        file.write(CRC % crc32(array.data, crc32(header.getvalue())))


def read_npy(path: str | Path, again: str) -> np.ndarray:
    """Returns the array of an .npy file, memory-mapped. If `write_npy` wrote a CRC-32, it is compared.

    again: what to do about a damaged file, for the end of the message.
    Raises FileNotFoundError, and UserError for damage.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            kind, shape, order, start = _header(file.read(1 << 12))
        size, stop = path.stat().st_size, start + math.prod(shape) * kind.itemsize
        if size - stop not in (0, CRC_BYTES):
            raise ValueError(f"{size} bytes, but its header says {stop}")
        if size != stop:
            written = np.memmap(path, np.uint8, "r")
            if written[stop:].tobytes() != CRC % crc32(written[:stop].data):
                raise ValueError("not the bytes that were written")
        return np.memmap(path, kind, "r", start, shape, order) if start < stop else np.zeros(shape, kind)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}){_tail(again)}") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}){_tail(again)}") from error


def read_npz(path: str | Path, again: str) -> dict[str, np.ndarray]:
    """Returns the arrays of an .npz file by name.

    again: what to do about a damaged file, for the end of the message.
    Raises FileNotFoundError, and UserError for damage.
    """
    try:
        with Path(path).open("rb") as file, zipfile.ZipFile(file) as members:
            return {_name(info): _array(members.read(info)) for info in members.infolist()}
    except FileNotFoundError:
        raise
    # zipfile raises these for damaged archives; a RuntimeError means encryption or an unknown compression.
    except (
        OSError,
        ValueError,
        TypeError,
        EOFError,
        RuntimeError,
        struct.error,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"{path}: not an .npz file, or damaged ({reason}){_tail(again)}") from error


def _tail(again: str) -> str:
    return f"; {again}" if again else ""


def _name(info: zipfile.ZipInfo) -> str:
    if not info.filename.endswith(".npy") or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"its member {info.filename} is not an array")
    return info.filename.removesuffix(".npy")


def _array(data: bytes) -> np.ndarray:
    """Returns the array of an .npy file with the bytes `data`. Raises ValueError or TypeError for other bytes."""
    kind, shape, order, start = _header(data)
    stop = start + math.prod(shape) * kind.itemsize
    if len(data) != stop:
        raise ValueError(f"an array of {len(data)} bytes, but its header says {stop}")
    return np.ndarray(shape, kind, bytearray(data), start, order=order)


def _header(data: bytes) -> tuple[np.dtype, tuple[int, ...], Literal["C", "F"], int]:
    """Returns type, shape, order ("C" or "F") and first byte of the array in an .npy file that begins with `data`."""
    packed = LENGTHS.get(data[6]) if data[:6] == b"\x93NUMPY" and len(data) > 12 else None
    if packed is None:
        raise ValueError("not an array file")
    first = 8 + struct.calcsize(packed)
    start = first + struct.unpack(packed, data[8:first])[0]
    found = HEADER.fullmatch(data[first:start])
    if found is None:
        raise ValueError("its header is damaged, or of a type other than numbers and text")
    kind, fortran, shape = found.groups()
    sizes = tuple(int(size) for size in shape.replace(b",", b" ").split())
    return np.dtype(kind.decode()), sizes, "F" if fortran == b"True" else "C", start
