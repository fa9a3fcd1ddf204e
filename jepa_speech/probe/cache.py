"""Features on disk: the layers of a recording, by the contents of recording and system, not by their names.

The key of a recording is the hash of its bytes (for a segment, also of its place), that of a system its fingerprint:
FOLDER/FINGERPRINT/HASH.npy. A moved file is found, and a changed one is not, so files need deleting only to free space.
"""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jepa_speech import checked
from jepa_speech.array_files import read_npy, write_npy
from jepa_speech.errors import UserError
from jepa_speech.ingest.audio_source import AudioSource, Rejected, opened
from jepa_speech.ingest.decoder import VERSION, changed_contents

LIMIT = 32 * 2**30  # bytes of a folder; what does not fit is computed whenever it is needed


class Cache:
    """The features of one system. `folder` may hold those of others."""

    def __init__(self, folder: str | Path, fingerprint: str, limit: int = LIMIT) -> None:
        self.folder = Path(folder) / fingerprint
        self.room = limit - sum(path.stat().st_size for path in Path(folder).glob("*/*.npy"))

    def layers(self, recording: AudioSource, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """The layers (L, T, D) of a recording, from disk or else from `compute()`, and then kept if there is room.

        A damaged file of the cache is replaced, and a line on stderr says so.
        """
        try:
            with opened(recording) as file:
                contents = file.read()
        except (OSError, ValueError, Rejected):
            return compute()  # the error names the file and the damage
        digest = hashlib.sha256(contents)
        if recording.is_segment or recording.channel is not None:
            digest.update(repr((float(recording.start), recording.seconds, recording.channel)).encode())
        if changed_contents(contents, recording.is_segment):
            digest.update(f"decoder {VERSION}".encode())
        path = self.folder / f"{digest.hexdigest()}.npy"
        try:
            layers = read_npy(path, "made again")
            return checked.array(layers, str(path), shape=(None, None, None))
        except FileNotFoundError:
            replaces = 0
        except UserError as error:
            print(f"computed again: {error}", file=sys.stderr)
            replaces = path.stat().st_size
        layers = compute()
        if layers.nbytes <= self.room + replaces:
            write_npy(path, layers)
            self.room -= layers.nbytes - replaces
        return layers
