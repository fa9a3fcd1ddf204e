"""Features on disk: the layers of a recording, known by what recording and system are and not by their names.

A recording is known by the hash of its bytes (of a stretch: also of its place), a system by its fingerprint:
FOLDER/FINGERPRINT/HASH.npy. So a moved file is found, and one that changed is not; nothing has to be thrown away by
hand but to win space.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jepa_speech.data.decoder import VERSION, changed
from jepa_speech.data.place import Place
from jepa_speech.errors import UserError
from jepa_speech.files import replacing

LIMIT = 32 * 2**30  # bytes of a folder; what does not fit is computed whenever it is needed


class Cache:
    """The features of one system. `folder` may hold those of others."""

    def __init__(self, folder: str | Path, fingerprint: str, limit: int = LIMIT) -> None:
        self.folder = Path(folder) / fingerprint
        self.room = limit - sum(path.stat().st_size for path in Path(folder).glob("*/*.npy"))

    def layers(self, recording: Place, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """The layers (L, T, D) of a recording, from disk or else from `compute()`, and then kept if there is room.

        Raises UserError for a file of the cache that is not whole.
        """
        try:
            digest = hashlib.sha256(Path(recording.path).read_bytes())
        except OSError:
            return compute()  # which says what is wrong with the file
        if recording.is_segment or recording.channel is not None:
            digest.update(repr((float(recording.start), recording.seconds, recording.channel)).encode())
        if changed(recording.path, recording.is_segment):
            digest.update(f"decoder {VERSION}".encode())
        path = self.folder / f"{digest.hexdigest()}.npy"
        if path.is_file():
            try:
                return np.load(path, allow_pickle=False)
            except (ValueError, EOFError) as error:
                raise UserError(f"{path}: not a whole array ({error}): delete it, and it is made again") from error
        layers = compute()
        if layers.nbytes <= self.room:
            with replacing(path) as file:
                np.save(file, layers, allow_pickle=False)
            self.room -= layers.nbytes
        return layers
