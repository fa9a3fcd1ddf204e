"""The anchor's share of a step: log-mel and posteriors of 1,024 components, beside labels read from a store."""

from functools import partial
from pathlib import Path

import jax
from rows import made
from rows.race import Row, alternate

PEERS = ()
FLOAT32 = "encoder.dtype=float32"  # bfloat16 is an emulation on most CPUs


def row(what: str, config: str, overrides: list[str], size: tuple[int, float, int], turns: int, steps: int) -> Row:
    """size: rows, seconds of each, components."""
    count, seconds, components = size
    mixture = made.anchor(components)
    runs = {}
    for source in ("online", "stored"):
        chosen = made.config_of(config, *overrides, f"anchor.source={source}", components=components)
        stepper = made.Stepper(chosen, made.batch(chosen, count, seconds, mixture), mixture)
        runs[source] = partial(stepper.run, steps)
    times = alternate(runs, turns)
    shape = f"{count} x {seconds:g} s, K = {components}"
    return Row(f"anchors in the step, {what}, {shape}", "the step with stored labels", *times.values(), figure="share")


def rows(quick: bool, work: Path, data: Path | None) -> list[Row]:
    if quick:
        return [row("toy", "tiny.py:hubert", [], (2, 0.5, 16), 2, 1)]
    published = row("published size in float32", "gmm_jepa.py", [FLOAT32], (1, 5.0, 1024), 7, 1)
    jax.clear_caches()
    smoke = row("configs/smoke.py", "smoke.py", [], (4, 4.0, 1024), 7, 3)
    return [Row(**vars(published) | {"goal": 0.02}), smoke]
