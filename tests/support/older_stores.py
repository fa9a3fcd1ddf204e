"""Stores as earlier versions wrote them: without what this version adds to store.json."""

import json
from pathlib import Path

from jepa_speech.store.description import OLDER


def as_an_older_store(store: Path) -> None:
    info = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps({name: value for name, value in info.items() if name in OLDER}))
