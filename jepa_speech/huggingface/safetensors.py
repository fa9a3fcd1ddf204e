"""Safetensors files: the package `safetensors` checks the header, and the arrays are mapped into memory.

Reading them with the package would copy each array (1.2 GB of arrays: 2.3 GB of memory, none mapped), and writing them
would hold the whole file in memory, ignore strides, and leave the file readable by its owner alone.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from jepa_speech import checked
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
POINTER = b"version https://git-lfs"
AGAIN = "the file is damaged or of another format: download it again"


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a file by name, mapped into memory, not yet read.

    Raises UserError for a file that cannot be read or is not whole (a wrong header; arrays that overlap, leave gaps,
    or do not end with the file), and for arrays of an unsupported type.
    """
    try:
        with Path(path).open("rb") as file:
            start = file.read(len(POINTER))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if start == POINTER:
        raise UserError(f"{path}: a pointer of Git LFS, not the file itself: run `git lfs pull` in its folder")
    try:
        with safe_open(path, framework="numpy") as header:
            entries = [(name, header.get_slice(name)) for name in header.offset_keys()]  # without gaps in this order
            kinds = [(name, entry.get_dtype(), entry.get_shape()) for name, entry in entries]
    except SafetensorError as error:
        reason = checked.shown(str(error).removeprefix("Error while deserializing header: "))
        raise UserError(f"{path}: not a whole safetensors file: {reason}; {AGAIN}") from error
    if not kinds:
        raise UserError(f"{path}: the header names no arrays; {AGAIN}")
    data = np.memmap(path, np.uint8, mode="r")[8 + int.from_bytes(start[:8], "little") :]
    arrays = {}
    for name, kind, shape in kinds:
        where = f"{path}: {checked.shown(name)}"
        if kind not in DTYPES:
            raise UserError(f"{where} has type {kind}; jepa-speech reads {', '.join(DTYPES)}: save the weights as F32")
        size = math.prod(shape) * DTYPES[kind].itemsize
        try:
            arrays[name] = data[:size].view(DTYPES[kind]).reshape(shape)
        except ValueError as error:  # more axes than numpy has
            raise UserError(f"{where}: shape {checked.shown(shape)} is not that of an array; {AGAIN}") from error
        data = data[size:]
    return arrays


def write_safetensors(path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes a file of the arrays, each of a type in `DTYPES`, by name: whole or not at all.

    metadata: strings for the header. The header is padded with spaces to a multiple of 8 bytes, and the widest types
    come first, so that every array is aligned when the file is mapped into memory.
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
