"""Options for reading inputs: folders in which recordings may be, and counts of items left out."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from jepa_speech.ingest.inputs.entry import Bounds, Entry
from jepa_speech.ingest.inputs.passed_over import PassedOver
from jepa_speech.local_paths import bucket_url


@dataclass(frozen=True)
class Reading:
    """Options for every kind of input.

    root: a folder in which recordings may be, besides the input's own; paths written by a recipe are relative to it.
    passed: counts of items left out.
    anywhere: recordings may be in any folder; only for callers that do not copy them.
    """

    root: str | Path | None = None
    passed: PassedOver = field(default_factory=PassedOver)
    anywhere: bool = False

    def bounds(self, folder: Path) -> Bounds:
        """Returns the folders that recordings listed in `folder` must be in."""
        return Bounds(folder, self.root, os.sep if self.anywhere else None)

    def base(self, folder: Path) -> Path:
        """Returns the folder to which paths written by a recipe are relative: `root`, by default `folder`."""
        return Path(self.root or folder) if bucket_url(str(self.root)) else Path(self.root or folder).absolute()

    def advised(self, entry: Entry) -> Entry:
        """Returns the entry of a recipe's path. If the file is missing and `root` is unset, the detail names --root."""
        if entry.reason != "missing" or self.root or os.path.isabs(entry.source):  # noqa: PTH117
            return entry
        return entry.refused("missing", f"{entry.detail}; pass --root DIR, the folder where the recipe was run")
