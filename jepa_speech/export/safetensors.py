"""Safetensors files, the format in which public checkpoints come without code in them.

8 bytes: N, little-endian; N bytes of JSON: name -> dtype, shape, data_offsets; then the arrays' bytes, one after
another. https://huggingface.co/docs/safetensors describes it.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.files import replacing

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


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name, mapped into memory, not yet read.

    Raises UserError for a file that cannot be read or is not whole: a header that is not one, arrays that overlap,
    leave gaps, or end elsewhere than the file.
    """
    try:
        data = np.memmap(path, np.uint8, mode="r")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # an empty file cannot be mapped
        raise UserError(f"{path}: not a safetensors file (it is empty)") from error
    try:
        header, data = _split(data)
        return _arrays(header, data)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error}); download it again") from error


def _split(data: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """The header, and the bytes behind it."""
    size = int.from_bytes(data[:8].tobytes(), "little")
    if len(data) < 8 or size > min(len(data) - 8, LARGEST_HEADER):
        raise ValueError("its header is cut off")
    header = json.loads(data[8 : 8 + size].tobytes())
    header.pop("__metadata__", None)
    return header, data[8 + size :]


def _arrays(header: dict[str, Any], data: np.ndarray) -> dict[str, np.ndarray]:
    arrays, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{name} is of type {entry['dtype']}, which this reader does not know")
        dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
        start, stop = entry["data_offsets"]
        if start != end or min(shape, default=0) < 0 or stop - start != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"the bytes of {name} are not where its shape wants them")
        if stop > len(data):
            raise ValueError(f"the bytes of {name} are cut off")
        arrays[name], end = data[start:stop].view(dtype).reshape(shape), stop
    if end != len(data):
        raise ValueError(f"it has {len(data)} bytes of arrays, its header speaks of {end}")
    return arrays


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
