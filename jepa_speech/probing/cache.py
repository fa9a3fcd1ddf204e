"""A cache of features on disk, FOLDER/FINGERPRINT/HASH.npy.

FINGERPRINT identifies the system, HASH the bytes of the recording, and for a segment its times. The features of a moved
file are thus found, and those of a changed file are not. Files need to be deleted only to free space.
"""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import numpy as np

from jepa_speech import checked
from jepa_speech.array_files import read_npy, write_npy
from jepa_speech.errors import UserError
from jepa_speech.ingest.audio_source import AudioSource, Rejected, opened
from jepa_speech.ingest.decoder import VERSION, changed_contents

LIMIT = 32 * 2**30  # most bytes of a folder; features beyond it are computed whenever they are needed


class Cache:
    """The cached features of one system. `folder` may hold those of other systems."""

    def __init__(self, folder: str | Path, fingerprint: str, limit: int = LIMIT) -> None:
        self.folder = Path(folder) / fingerprint
        self.lock = Lock()
        self.free = limit - sum(path.stat().st_size for path in Path(folder).glob("*/*.npy"))

    def layers(self, recording: AudioSource, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """Returns the layers (L, T, D) of a recording from disk, or from `compute()`, which are saved if they fit.

        A damaged file is replaced, with a line on stderr.
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
            layers = read_npy(path, "")
            return checked.array(layers, str(path), shape=(None, None, None))
        except FileNotFoundError:
            replaces = 0
        except UserError as error:
            print(f"{error}; its features are computed again", file=sys.stderr)
            replaces = path.stat().st_size
        layers = compute()
        with self.lock:
            if layers.nbytes <= self.free + replaces:
                write_npy(path, layers)
                self.free -= layers.nbytes - replaces
        return layers
