"""How inputs are read: where their recordings may be, and the counts of what is left out."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from jepa_speech.ingest.inputs.entry import Bounds, Entry
from jepa_speech.ingest.inputs.passed_over import PassedOver


@dataclass(frozen=True)
class Reading:
    """What every kind of input needs to know.

    root: recordings may be in it, besides their input's own folder; paths that a recipe wrote are relative to it.
    anywhere: recordings may be in any folder; for callers that copy nothing of them.
    """

    root: str | Path | None = None
    passed: PassedOver = field(default_factory=PassedOver)
    anywhere: bool = False

    def bounds(self, folder: Path) -> Bounds:
        """Returns the folders that recordings listed in `folder` must be in."""
        return Bounds(folder, self.root, os.sep if self.anywhere else None)

    def base(self, folder: Path) -> Path:
        """Returns the folder to which paths written by a recipe are relative: `root`, by default `folder`."""
        return Path(self.root or folder).absolute()

    def advised(self, entry: Entry) -> Entry:
        """Returns the entry of a recipe's path; if it is missing without `root`, its detail names the option."""
        if entry.reason != "missing" or self.root or os.path.isabs(entry.source):  # noqa: PTH117
            return entry
        return entry.refused("missing", f"{entry.detail}; --root DIR is where paths of a recipe begin")
