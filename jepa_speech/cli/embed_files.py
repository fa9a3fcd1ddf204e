"""Files of features by name, written array by array: any number of recordings takes the memory of one."""

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from jepa_speech.errors import UserError

Add = Callable[[str, np.ndarray], None]


@contextmanager
def npz(file: BinaryIO) -> Iterator[Add]:
    """For each name an array (T, D), as numpy.savez writes it."""
    with zipfile.ZipFile(file, "w") as arrays:

        def add(name: str, features: np.ndarray) -> None:
            with arrays.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, features, allow_pickle=False)

        yield add


@contextmanager
def parquet(file: BinaryIO) -> Iterator[Add]:
    """A row for each name: `path`, and `features`, a list of T lists of D float32.

    Raises UserError where pyarrow is missing.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("writing parquet needs pyarrow; pip install 'jepa-speech[parquet]'") from error
    writer: Any = None

    def add(name: str, features: np.ndarray) -> None:
        nonlocal writer
        frames = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(features.ravel()), features.shape[1])
        whole = pyarrow.ListArray.from_arrays(pyarrow.array([0, len(features)], pyarrow.int32()), frames)
        table = pyarrow.table({"path": [name], "features": whole})
        if writer is None:
            writer = pyarrow.parquet.ParquetWriter(file, table.schema)
        writer.write_table(table)

    try:
        yield add
    finally:
        if writer is not None:
            writer.close()


FORMATS = {".npz": npz, ".parquet": parquet}
