"""The file from which an interrupted fit resumes."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from jepa_speech import checked
from jepa_speech.array_files import read_npz
from jepa_speech.errors import UserError
from jepa_speech.files import parse_row, replacing

SECONDS = 60.0  # between two saves in the middle of a pass

T = TypeVar("T")
State = tuple[dict[str, np.ndarray], dict[str, Any]]  # arrays, and values for JSON


class Unfinished:
    """The saved state of a fit, at `path`. A fit with other `options` cannot resume from it.

    With several processes, only the first one writes, and only after whole passes.
    """

    def __init__(self, path: str | Path, options: Mapping[str, Any]):
        self.path, self.options = Path(path), dict(options)
        self._saved = time.monotonic()

    def load(self, restore: Callable[[dict[str, np.ndarray], dict[str, Any]], T]) -> T | None:
        """Returns `restore(arrays, rest)` of the saved state, or None if nothing was saved.

        Raises UserError if the file has other options or is damaged (`restore` raises KeyError, TypeError, ValueError).
        """
        again = "remove the file to start again"
        try:
            arrays = read_npz(self.path, again)
        except FileNotFoundError:
            return None
        if not {"options", "rest"} <= arrays.keys():
            raise UserError(f"{self.path}: this unfinished fit is damaged; {again}")
        saved, rest = (parse_row(str(arrays.pop(name)), f"{self.path}: {name}") for name in ("options", "rest"))
        for name, array in arrays.items():
            checked.array(array, f"{self.path}: {name}", shape=array.shape, kind="fiu")
        for name, mine in self.options.items():
            if (other := saved.get(name)) != mine:
                raise UserError(
                    f"{self.path}: this unfinished fit has {name.lstrip('-')} = {other}, not {mine}: "
                    "resume it with that value, or remove the file to start again"
                )
        try:
            return restore(arrays, rest)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{self.path}: this unfinished fit is damaged; {again}") from error

    def save(self, arrays: Mapping[str, np.ndarray], rest: Mapping[str, Any]) -> None:
        if jax.process_index() == 0:
            with replacing(self.path) as file:
                words = {"options": json.dumps(self.options), "rest": json.dumps(rest)}
                contents: dict[str, Any] = {**arrays, **{name: np.array(text) for name, text in words.items()}}
                np.savez(file, **contents)
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether to save now, in the middle of a pass."""
        return jax.process_count() == 1 and time.monotonic() - self._saved >= SECONDS

    def remove(self) -> None:
        if jax.process_index() == 0:
            self.path.unlink(missing_ok=True)
