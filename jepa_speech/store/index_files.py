"""Writing of a store's index: columns to which rows are appended, in constant memory."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from jepa_speech.array_files import read_npy
from jepa_speech.files import replacing
from jepa_speech.store.description import INDEX

Index = dict[str, np.ndarray]  # by the names of INDEX
HEADER = 128  # bytes; NumPy pads a header to this size, which suffices for any number of rows


@contextmanager
def index_writer(store: Path) -> Iterator[Callable[[Index], None]]:
    """Yields a function that appends rows to all columns of STORE/index. The files get their final names at the end."""
    (store / "index").mkdir(exist_ok=True)
    rows = 0
    with ExitStack() as stack:
        files = {name: stack.enter_context(replacing(store / "index" / f"{name}.npy")) for name in INDEX}
        for file in files.values():
            file.write(bytes(HEADER))

        def append(index: Index) -> None:
            nonlocal rows
            for name, (kind, _) in INDEX.items():
                files[name].write(np.ascontiguousarray(index[name], kind).data)
            rows += len(index["samples"])

        yield append
        for name, (kind, row) in INDEX.items():
            files[name].seek(0)
            about = {"descr": np.dtype(kind).str, "fortran_order": False, "shape": (rows, *row)}
            np.lib.format.write_array_header_1_0(files[name], about)
            if files[name].tell() != HEADER:
                raise AssertionError(f"numpy writes a header of {files[name].tell()} bytes")


def written_index(store: Path) -> Index:
    """Returns the columns of STORE/index, memory-mapped."""
    return {name: read_npy(store / "index" / f"{name}.npy", "run the same command again") for name in INDEX}
