"""Figures of several steps of one run over the step: as plain values, table and plots."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jepa_speech.analysis.collect import Analysis
from jepa_speech.analysis.side_by_side import FIGURES, own_figures
from jepa_speech.probing import evaluate
from jepa_speech.probing.plots import KINDS, MODEL, TARGET, canvas, styled

LINES = {"model": "-", "targets": "--", "random": ":"}


def of_probes(found: Mapping[int, evaluate.Results]) -> dict[str, Any]:
    """Returns a probe's results over steps: {"steps", "tasks": task -> figure -> curves}, lists in order of steps.

    Curves are `better`; `value`, `low`, `high` and `head` of the head chosen on valid at each step; `heads`, the value
    of every head by name; and `chance` for a task's first figure, if the task has it. None means no rate.
    """
    steps = sorted(found)
    tasks: dict[str, Any] = {}
    for task in found[steps[0]]["tasks"]:
        parts = [found[step]["tasks"][task] for step in steps]
        chosen = [part["heads"][part["chosen"]]["figures"] for part in parts]
        tasks[task] = {
            figure: {
                "better": better,
                **{key: [figures[figure][key] for figures in chosen] for key in ("value", "low", "high")},
                "head": [part["chosen"] for part in parts],
                "heads": {
                    head: [part["heads"][head]["figures"][figure]["value"] for part in parts]
                    for head in parts[0]["heads"]
                },
                **({"chance": parts[0]["chance"]} if "chance" in parts[0] and not number else {}),
            }
            for number, (figure, better) in enumerate(parts[0]["figures"].items())
        }
    return {"steps": steps, "tasks": tasks}


def table(found: Mapping[int, evaluate.Results]) -> list[list[str]]:
    """Returns rows per step with the value and interval in % of the chosen head, for each figure of each task."""
    first = found[min(found)]["tasks"]
    named = [(task, figure) for task, part in first.items() for figure in part["figures"]]
    rows = [["step", *(f"{task}: {figure}, % [95%]" for task, figure in named)]]
    for step in sorted(found):
        rows.append([f"{step}", *(str(evaluate.estimate(found[step], *one)) for one in named)])
    return rows


@styled
def probe_figure(task: str, steps: Sequence[int], curves: Mapping[str, Any]) -> Figure:
    """Plots a panel for each figure of a task: the chosen head with its interval, each single layer, chance."""
    drawn, grid = canvas(len(curves), 1, (9, 3.4 * len(curves)), sharex=True)
    for axes, (figure, one) in zip(grid[:, 0], curves.items(), strict=True):
        layers = {head: values for head, values in one["heads"].items() if head.startswith("layer ")}
        for number, (head, values) in enumerate(layers.items() if len(layers) > 1 else ()):
            ends = number in (0, len(layers) - 1)
            colour = colormaps["viridis"](0.95 - 0.8 * number / (len(layers) - 1))
            axes.plot(steps, percent(values), lw=1.2, color=colour, label=head if ends else None)
        value, low, high = (percent(one[key]) for key in ("value", "low", "high"))
        reach = np.maximum(0, (value - low, high - value))
        axes.errorbar(steps, value, reach, fmt="o-", color=MODEL, lw=2, capsize=3, label="chosen on valid")
        if "chance" in one:
            axes.axhline(100 * one["chance"], color=TARGET, ls=":", label="chance")
        axes.set_ylabel(f"{figure} on test, %\n({one['better']} is better)")
        handles, labels = axes.get_legend_handles_labels()  # the chosen head first
        axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1, 0.5))
    grid[0, 0].set_title(f"{task} over the steps of training (bars: 95% intervals over utterances)")
    of_steps(grid[-1, 0], steps)
    return drawn


def of_analyses(found: Mapping[int, Analysis]) -> dict[str, Any]:
    """Returns figure -> labelling ("model", "targets", "random") -> a value (or None) per step, in ascending order."""
    tables = [found[step].table | {"model": own_figures(found[step])} for step in sorted(found)]
    curves = {figure: {kind: [one.get(kind, {}).get(figure) for one in tables] for kind in LINES} for figure in FIGURES}
    known = {
        figure: {kind: values for kind, values in kinds.items() if set(values) != {None}}
        for figure, kinds in curves.items()
    }
    return {figure: kinds for figure, kinds in known.items() if kinds}


@styled
def analysis_figure(steps: Sequence[int], curves: Mapping[str, Mapping[str, Sequence[float | None]]]) -> Figure:
    """Plots a small panel for each figure: the model, its targets and random labels over the steps."""
    across = 3
    down = -(-len(curves) // across)
    drawn, grid = canvas(down, across, (10.5, 2.1 * down + 0.6))
    for axes, (figure, kinds) in zip(grid.flat, curves.items(), strict=False):
        for kind in (kind for kind in reversed(LINES) if kind in kinds):
            mark = {"marker": "o", "ms": 4} if kind == "model" else {}
            axes.plot(steps, np.array(kinds[kind], float), ls=LINES[kind], color=KINDS[kind], lw=2, **mark)
        axes.set_title(FIGURES[figure][0], size=9)
        axes.tick_params(labelsize=8)
        of_steps(axes, steps, ticks=4)
    for axes in grid.flat[len(curves) :]:
        axes.axis("off")
    shown = [kind for kind in LINES if any(kind in kinds for kinds in curves.values())]
    handles = [grid[0, 0].plot([], [], ls=LINES[kind], color=KINDS[kind], lw=2, label=kind)[0] for kind in shown]
    drawn.legend(handles=handles, loc="outside upper right", ncols=3)
    return drawn


def percent(values: Sequence[float | None]) -> np.ndarray:
    return 100 * np.array(values, float)


def of_steps(axes: Axes, steps: Sequence[int], ticks: int = 8) -> None:
    """Sets up an axis of steps, with whole numbers only."""
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True, steps=[1, 2, 5, 10]))
    if len(steps) > 1:
        axes.set_xlim(steps[0] - 0.03 * (steps[-1] - steps[0]), steps[-1] + 0.03 * (steps[-1] - steps[0]))
