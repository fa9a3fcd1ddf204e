"""The picture of a run's metrics.jsonl: losses, λ and the figures of its probes over the steps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jepa_speech.probing.plots import KINDS, MODEL, SECOND, TARGET, canvas, styled

LOSSES = {
    "loss": ("loss", MODEL),
    "jepa": ("JEPA (masked frames)", SECOND),
    "cluster": ("cluster (masked frames)", TARGET),
    "cluster_visible": ("cluster (visible frames)", "#b0413e"),
}
RANK = "probe_rank_"

Row = dict[str, Any]


@styled
def curves(rows: Sequence[Row]) -> Figure:
    """A panel of the losses, and one below it for λ and for each kind of figure that probes found, if there is any."""
    steps = np.array([row["step"] for row in rows])
    panels = below(rows)
    heights = [3] + [1] * len(panels)
    figure, grid = canvas(
        len(heights), 1, (9, 3.6 + 1.4 * len(panels)), sharex=True, gridspec_kw={"height_ratios": heights}
    )
    top = grid[0, 0]
    for name, (label, colour) in LOSSES.items():
        if name in rows[-1]:
            values = np.array([np.nan if row.get(name) is None else row[name] for row in rows], float)
            top.plot(steps, values, color=colour, lw=0.6, alpha=0.3)
            top.plot(steps, _smooth(values), color=colour, lw=2, label=label)
    top.set_ylabel("loss")
    top.set_title("Training: thin is every step, thick a running mean")
    top.legend(ncols=2)
    for axes, (what, lines) in zip(grid[1:, 0], panels.items(), strict=True):
        for (label, name), colour in zip(lines.items(), (MODEL, TARGET, SECOND), strict=False):
            known = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
            mark = "" if len(known) == len(rows) else "o"
            axes.plot(*zip(*known, strict=True), marker=mark, ms=4, lw=2, color=KINDS.get(label, colour), label=label)
        axes.set_ylabel(what)
        if len(lines) > 1:
            axes.legend(ncols=len(lines), fontsize=8)
    grid[-1, 0].set_xlabel("step")
    return figure


def below(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """What the panels below the losses show: axis -> label of a line -> its figure."""
    there = dict.fromkeys(name for row in rows for name, value in row.items() if value is not None)
    panels = {
        "λ": {"λ": "lambda"},
        "phone\naccuracy": {"model": "probe_phone_accuracy"},
        "usage\nentropy": {"model": "probe_usage_entropy", "targets": "probe_target_usage_entropy"},
        "effective\nrank": {name.removeprefix(RANK).replace("_", " "): name for name in there if name.startswith(RANK)},
    }
    known = {axis: {label: name for label, name in one.items() if name in there} for axis, one in panels.items()}
    return {axis: lines for axis, lines in known.items() if lines}


def _smooth(values: np.ndarray) -> np.ndarray:
    """A running mean over 2% of the curve, shorter at its ends; steps without a value are passed over."""
    half = max(1, len(values) // 100)
    known = np.isfinite(values)
    total = np.concatenate([[0], np.cumsum(np.where(known, values, 0))])
    count = np.concatenate([[0], np.cumsum(known)])
    at = np.arange(len(values))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    inside = count[high] - count[low]
    return np.where(inside > 0, (total[high] - total[low]) / np.maximum(inside, 1), np.nan)
