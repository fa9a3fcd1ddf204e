"""What the bits of a run depend on besides config and step: the devices, and the cores of a CPU.

XLA splits a CPU's work over the cores that the process may use, which changes the order of sums.
"""

from collections.abc import Mapping
from typing import Any

import jax

from jepa_speech.ingest.parallel import cores
from jepa_speech.wording import counted


def places() -> dict[str, int]:
    """Returns the number of `devices` and, on a CPU, of the `cores` that this process may use."""
    return {"devices": jax.device_count()} | ({"cores": cores()} if jax.default_backend() == "cpu" else {})


def moved(earlier: Mapping[str, Any], now: Mapping[str, int]) -> str:
    """Returns what to add to "resumes from step N" if the places differ from those of the earlier start, else "".

    earlier: the event of that start. Events of earlier versions have no `cores`.
    """
    changes = [
        f"{counted(number, name[:-1])} instead of {earlier[name]:,}"
        for name, number in now.items()
        if earlier.get(name, number) != number
    ]
    return f" on {' and '.join(changes)}: figures agree up to rounding, not to the bit" if changes else ""
