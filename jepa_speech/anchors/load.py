"""An anchor from its file, whichever kind it is."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from jepa_speech.anchors.gmm import DiagonalGMM
from jepa_speech.anchors.kmeans import KMeans
from jepa_speech.errors import UserError

KINDS = {kind.FORMAT: kind for kind in (DiagonalGMM, KMeans)}


def load_anchor(path: str | Path) -> DiagonalGMM | KMeans:
    """What `jepa-speech fit` wrote. Raises UserError, naming the file, if it is missing, broken, or something else."""
    try:
        with Path(path).open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as arrays:
            contents = {name: arrays[name] for name in arrays.files}
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such anchor; make it with `jepa-speech fit`") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: not an anchor, or broken; make it again with `jepa-speech fit`") from error
    kind = KINDS.get(str(contents.pop("format", "")))
    if kind is None:
        raise UserError(f"{path}: not an anchor of this program; make one with `jepa-speech fit`")
    return kind(**{name: array if array.ndim else array.item() for name, array in contents.items()})
