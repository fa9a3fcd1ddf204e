"""Files named on a command line, for verbs that take recordings one by one."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from jepa_speech.data.audio import FULL_SCALE, load
from jepa_speech.data.place import Rejected
from jepa_speech.errors import UserError


def existing(names: Iterable[str]) -> list[str]:
    """Each name once; raises UserError if one is no file."""
    names = list(dict.fromkeys(names))
    if missing := [name for name in names if not Path(name).is_file()]:
        raise UserError(f"{missing[0]}: no such file" + (f", and {len(missing) - 1} more" if missing[1:] else ""))
    return names


def wave_of(name: str | Path) -> np.ndarray:
    """A file as (S,) float32 at 16 kHz; raises UserError, naming it, where it cannot be used."""
    try:
        return load(Path(name).absolute()).astype(np.float32) / FULL_SCALE
    except Rejected as verdict:
        raise UserError(f"{name}: {verdict.detail} ({verdict.reason}); leave it out") from verdict
