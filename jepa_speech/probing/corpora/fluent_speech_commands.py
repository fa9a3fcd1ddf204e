"""Fluent Speech Commands (Lugosch et al. 2019): ROOT/data/{train,valid,test}_data.csv, and the clips named in them.

As in SUPERB, an intent joins action, object and location, and is right if all three are.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from jepa_speech.errors import UserError
from jepa_speech.probing.corpora.listing import Rows, by_split, lines

TASKS = ("intent",)
COLUMNS = ("path", "speakerId", "transcription", "action", "object", "location")


def manifests(root: Path, out: Path) -> dict[str, Rows]:
    rows: dict[str, Rows] = {}
    for split in ("train", "valid", "test"):
        rows[split] = [
            {
                "audio_path": root / row["path"],
                "intent": "|".join(row[part] for part in ("action", "object", "location")),
                "text": row["transcription"],
                "speaker": row["speakerId"],
            }
            for row in table(root / "data" / f"{split}_data.csv")
        ]
    return by_split(rows)


def table(path: Path) -> Iterator[dict[str, str]]:
    """Yields the rows of a table with COLUMNS. Raises UserError if a column is missing."""
    try:
        for number, row in enumerate(csv.DictReader(lines(path), strict=True), 1):
            if missing := [name for name in COLUMNS if row.get(name) is None]:
                raise UserError(
                    f"{path}: row {number} has no {', '.join(missing)}; the columns are {', '.join(COLUMNS)}"
                )
            yield row
    except csv.Error as error:
        raise UserError(f"{path}: not a table of comma-separated values ({error})") from error
