"""What a logger is, and the ids under which services know a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from jepa_speech import checked
from jepa_speech.files import read_object, write_json


class Logger(Protocol):
    """Shows figures of a run. Their source is metrics.jsonl, so a logger that fails does not end the run."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the values of a step by their names, all finite. Steps increase."""

    def close(self) -> None:
        """Writes what is left."""


class Service(Logger, Protocol):
    """A logger that may block or raise, so that `Background` calls it.

    last: the last step that the service already has of this run; 0 if it has none.
    """

    last: int


def run_id(folder: Path, name: str) -> str:
    """Returns the id that the service `name` has for this run, "" if `folder` holds none."""
    path = folder / f"{name}.json"
    return checked.field(read_object(path), "run_id", str, str(path)) if path.exists() else ""


def keep_run_id(folder: Path, name: str, value: str) -> None:
    """Writes the id below the run folder: a resumed run continues the same run, wherever the folder is by then."""
    write_json(folder / f"{name}.json", {"run_id": value})
