"""Safetensors files, the format in which public checkpoints come without code in them.

8 bytes: N, little-endian; N bytes of JSON: name -> dtype, shape, data_offsets; then the arrays' bytes, one after
another. https://huggingface.co/docs/safetensors describes it.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jepa_speech import checked
from jepa_speech.errors import UserError
from jepa_speech.files import parse_json, replacing

DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(jnp.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
LARGEST_HEADER = 100_000_000  # bytes, as in the format's own library
MOST_AXES = 64  # of a numpy array
POINTER = b"version https://git-lfs"
AGAIN = "the file is damaged or of another format: download it again"


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name, mapped into memory, not yet read.

    Raises UserError for a file that cannot be read or is not whole (a wrong header; arrays that overlap, leave gaps,
    or do not end with the file), and for arrays of an unsupported type.
    """
    try:
        data = np.memmap(path, np.uint8, mode="r")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # an empty file cannot be mapped
        raise UserError(f"{path}: not a safetensors file (it is empty)") from error
    if data[: len(POINTER)].tobytes() == POINTER:
        raise UserError(f"{path}: a pointer of Git LFS, not the file itself: run `git lfs pull` in its folder")
    size = int.from_bytes(data[:8].tobytes(), "little")
    if len(data) < 8 or size > min(len(data) - 8, LARGEST_HEADER):
        raise UserError(f"{path}: not a whole safetensors file (its header is cut off); {AGAIN}")
    header = _header(data[8 : 8 + size].tobytes(), str(path))
    return _arrays(header, data[8 + size :], str(path))


def _header(text: bytes, path: str) -> dict[str, Any]:
    """Returns the header's entries by the arrays' names."""
    where = f"{path}: the header"
    try:
        header = parse_json(text, where)
    except UserError as error:
        raise UserError(f"{error}; {AGAIN}") from error
    if not isinstance(header, dict):
        raise UserError(f"{where} is not a JSON object; {AGAIN}")
    for key, value in checked.field(header, "__metadata__", dict, where, default={}).items():
        checked.value(value, f"{where}: __metadata__: {key}", str)
    header.pop("__metadata__", None)
    if not header:
        raise UserError(f"{where} names no arrays; {AGAIN}")
    return header


def _arrays(header: dict[str, Any], data: np.ndarray, path: str) -> dict[str, np.ndarray]:
    """Returns the arrays by name; raises UserError where they are not laid out one after another to the file's end."""
    entries = sorted(
        (_entry(name, entry, path) for name, entry in header.items()), key=lambda entry: (entry.start, entry.stop)
    )
    arrays, end = {}, 0
    for name, dtype, shape, start, stop in entries:
        if start != end or stop - start != math.prod(shape) * dtype.itemsize:
            raise UserError(
                f"{path}: the offsets of {checked.shown(name)} do not fit its shape and the arrays before it; {AGAIN}"
            )
        if stop > len(data):
            raise UserError(
                f"{path}: not a whole safetensors file (the bytes of {checked.shown(name)} are cut off); {AGAIN}"
            )
        arrays[name], end = data[start:stop].view(dtype).reshape(shape), stop
    if end != len(data):
        raise UserError(f"{path}: it has {len(data)} bytes of arrays, but its header gives {end}; {AGAIN}")
    return arrays


class _Entry(NamedTuple):
    name: str
    dtype: np.dtype
    shape: list[int]
    start: int
    stop: int


def _entry(name: str, entry: Any, path: str) -> _Entry:
    where = f"{path}: {checked.shown(name)}"
    dtype = checked.field(entry, "dtype", str, where)
    if dtype not in DTYPES:
        raise UserError(
            f"{where} is of type {checked.shown(dtype)}; what can be read is {', '.join(DTYPES)}: "
            "save the weights as F32"
        )
    shape, offsets = (checked.field(entry, key, list, where) for key in ("shape", "data_offsets"))
    for key, sizes in (("shape", shape), ("data_offsets", offsets)):
        for i, size in enumerate(sizes):
            checked.value(size, f"{where}: {key}[{i}]", int, least=0)
    if len(shape) > MOST_AXES or math.prod(max(size, 1) for size in shape) >= 2**60 or len(offsets) != 2:
        raise UserError(
            f"{where}: shape {checked.shown(shape)} and data_offsets {checked.shown(offsets)} are not those of an "
            f"array; {AGAIN}"
        )
    return _Entry(name, DTYPES[dtype], shape, *offsets)


def write_safetensors(path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """A file of the arrays, each of a type in `DTYPES`, by name: whole or not at all. metadata: strings in its header.

    Whoever reads it may map it into memory: the header is padded with spaces to a multiple of 8 bytes, and the widest
    types stand first.
    """
    kinds = {dtype: kind for kind, dtype in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end, names = 0, sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    for name in names:
        array, start = arrays[name], end
        end += array.nbytes
        header[name] = {"dtype": kinds[array.dtype], "shape": array.shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(np.ascontiguousarray(arrays[name]).tobytes())
