"""Fluent Speech Commands (Lugosch et al. 2019): ROOT/data/{train,valid,test}_data.csv, and the clips that they name.

An intent is action, object and location together, as SUPERB counts it: right when all three are.
"""

import csv
from pathlib import Path

from jepa_speech.probe.corpora.listing import Rows, by_split, lines

TASKS = ("intent",)


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
            for row in csv.DictReader(lines(root / "data" / f"{split}_data.csv"))
        ]
    return by_split(rows)
