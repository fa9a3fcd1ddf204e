"""A fit that was interrupted, in a file from which the same fit goes on."""

import json
import time
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.files import replacing

SECONDS = 60.0  # between two savings in the middle of a pass

State = tuple[dict[str, np.ndarray], dict[str, Any]]  # arrays, and what JSON can say


class Unfinished:
    """The state of one fit, saved at `path`; `options`: what makes it another fit if it is changed.

    Of several processes the first one writes, and at the ends of passes only.
    """

    def __init__(self, path: str | Path, options: Mapping[str, Any]):
        self.path, self.options = Path(path), dict(options)
        self._saved = time.monotonic()

    def load(self) -> State | None:
        """What was saved, if anything was. Raises UserError if it is of other options, or broken."""
        if not self.path.exists():
            return None
        try:
            with self.path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as contents:
                arrays = {name: contents[name] for name in contents.files}
            saved, rest = (json.loads(str(arrays.pop(name))) for name in ("options", "rest"))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{self.path}: an unfinished fit, but broken; remove it to begin anew") from error
        for name, mine in self.options.items():
            if (other := saved.get(name)) != mine:
                raise UserError(
                    f"{self.path}: an unfinished fit with {name} {other}, not {mine}: "
                    "run that again, or remove it to begin anew"
                )
        return arrays, rest

    def save(self, arrays: Mapping[str, np.ndarray], rest: Mapping[str, Any]) -> None:
        if jax.process_index() == 0:
            with replacing(self.path) as file:
                words = {"options": json.dumps(self.options), "rest": json.dumps(rest)}
                np.savez(file, **arrays, **{name: np.array(text) for name, text in words.items()})
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time to save in the middle of a pass."""
        return jax.process_count() == 1 and time.monotonic() - self._saved >= SECONDS

    def remove(self) -> None:
        if jax.process_index() == 0:
            self.path.unlink(missing_ok=True)
