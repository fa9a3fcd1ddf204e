"""Plots of the results of probes (evaluate.py), and of comparisons between systems."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from jepa_speech.probing.baselines import BASELINES
from jepa_speech.probing.bootstrap import Estimate
from jepa_speech.probing.plots import MODEL, RANDOM, SECOND, TARGET, canvas, styled

KINDS = ("layers", "layer_weights", "confusion", "curve")  # the plots of a task; `of_results` uses these names
NUMBERED = 12  # most classes for which a confusion matrix shows its numbers


@styled
def systems(scores: Mapping[str, Estimate], part: Mapping[str, Any], title: str, figure: str | None = None) -> Figure:
    """Plots a figure of each system as a point with its interval, the best on top. part: a task's results."""
    name = figure or next(iter(part["figures"]))
    better = part["figures"][name]
    drawn, ((axes,),) = canvas(size=(9, 1.5 + 0.45 * len(scores)))
    known = [(system, score) for system, score in scores.items() if np.isfinite(score.value)]
    ranked = sorted(known, key=lambda item: item[1].value, reverse=better == "lower")
    for height, (system, score) in enumerate(ranked):
        colour = RANDOM if system in BASELINES or system.startswith("random") else MODEL
        axes.plot([100 * score.low, 100 * score.high], [height, height], color=colour, lw=5, alpha=0.35)
        axes.plot(100 * score.value, height, "o", color=colour, ms=8)
        axes.annotate(
            f"{100 * score.value:.1f}", (100 * score.value, height), (0, 7), textcoords="offset points", ha="center"
        )
    if "chance" in part and name == next(iter(part["figures"])):
        chance = 100 * part["chance"]
        axes.axvline(chance, color=TARGET, ls=":", lw=1.5)
        axes.text(chance, -0.5, f" chance: {chance:.1f}%", color=TARGET, va="bottom")
    axes.set_yticks(range(len(ranked)), [system for system, _ in ranked])
    axes.set_ylim(-0.6, len(ranked) - 0.2)
    axes.set_xlabel(f"{name} on test, %, {better} is better (bar: 95% interval)")
    axes.set_title(f"{title} (systems differ if their bars do not overlap)")
    return drawn


class Panel(NamedTuple):
    """A figure of several systems. lines: system -> (work in TFLOP, figure) of each budget. bands: of baselines."""

    title: str
    better: str  # "lower" or "higher"
    lines: Mapping[str, Sequence[tuple[float, Estimate]]]
    bands: Mapping[str, Estimate]


@styled
def against_work(panels: Sequence[Panel]) -> Figure:
    """Plots each figure of systems against the logarithm of their work, with baselines as horizontal bands."""
    drawn, grid = canvas(len(panels), size=(9, 4.2 * len(panels)))
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    colours = dict(zip(names, colormaps["tab20"](np.arange(len(names)) % 20), strict=True))
    for (axes,), panel in zip(grid, panels, strict=True):
        for number, (name, estimate) in enumerate(panel.bands.items()):
            grey = str(0.45 + 0.15 * (number % 3))
            axes.axhspan(100 * estimate.low, 100 * estimate.high, color=grey, alpha=0.15, lw=0)
            axes.axhline(100 * estimate.value, color=grey, ls=":", label=name)
        for name, steps in panel.lines.items():
            work, (value, low, high) = [x for x, _ in steps], 100 * np.array([y for _, y in steps], float).T
            reach = np.maximum(0, (value - low, high - value))
            axes.errorbar(work, value, reach, fmt="o-", color=colours[name], ms=4, capsize=3, label=name)
        axes.set_xscale("log")
        axes.set_xlabel("work of a run, TFLOP")
        axes.set_ylabel(f"% on test ({panel.better} is better)")
        axes.set_title(f"{panel.title} (bars and bands: 95% intervals)")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)
    return drawn


@styled
def by_layer(part: Mapping[str, Any], task: str) -> Figure:
    """Plots the first figure of a task on every single layer, with the weighted sum as a horizontal band."""
    figure, ((axes,),) = canvas()
    name, better = next(iter(part["figures"].items()))
    found = {head: values["figures"][name] for head, values in part["heads"].items()}
    singles = [values for head, values in found.items() if head.startswith("layer ")]
    value, low, high = (100 * np.array([values[key] for values in singles], float) for key in ("value", "low", "high"))
    depth = np.arange(len(singles))
    reach = np.maximum(0, (value - low, high - value))
    axes.errorbar(depth, value, reach, fmt="o-", color=MODEL, capsize=3, label="single layer")
    if (band := found.get("weighted")) and band["value"] is not None:
        axes.axhspan(100 * band["low"], 100 * band["high"], color=SECOND, alpha=0.15, lw=0)
        axes.axhline(100 * band["value"], color=SECOND, label="weighted sum of all layers")
    axes.set_xticks(depth)
    axes.set_xlabel("layer (0 is the input of the first block)")
    axes.set_ylabel(f"{name} on test, % ({better} is better)")
    axes.set_title(f"{task}: results by layer (95% intervals over utterances)")
    axes.legend()
    return figure


@styled
def learning_curve(part: Mapping[str, Any], task: str) -> Figure:
    """Plots the first figure on valid over the steps of the chosen head."""
    figure, ((axes,),) = canvas()
    name, better = next(iter(part["figures"].items()))
    steps, values = np.array(part["curve"], float).T
    axes.plot(steps, 100 * values, "o-", color=MODEL, ms=4)
    axes.set_xlabel("step")
    axes.set_ylabel(f"{name} on valid, % ({better} is better)")
    axes.set_title(f"{task}: learning curve of the chosen head")
    return figure


@styled
def layer_weights(weights: Sequence[float], task: str) -> Figure:
    """Plots the weight of each layer in the probe's weighted sum."""
    figure, ((axes,),) = canvas(size=(9, 3))
    axes.bar(range(len(weights)), weights, color=MODEL, width=0.7)
    axes.axhline(1 / len(weights), color=RANDOM, ls="--", label="initial weight")
    axes.set_xticks(range(len(weights)))
    axes.set_xlabel("layer")
    axes.set_ylabel("weight (they sum to 1)")
    axes.set_title(f"{task}: layer weights of the weighted sum")
    axes.legend()
    return figure


@styled
def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], task: str) -> Figure:
    """Plots a confusion matrix. Rows are true classes, in % of each; a perfect probe has only the diagonal."""
    counts = np.asarray(matrix, float)
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = float(np.clip(0.21 * len(classes) + 1.2, 4.5, 10))
    figure, ((axes,),) = canvas(size=(side + 0.8, side))
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=max(1.0, share.max()), aspect="equal")
    if len(classes) <= 60:
        size = 7.5 if len(classes) > 15 else 10
        turn = 90 if max(map(len, classes)) > 2 else 0
        axes.set_xticks(range(len(classes)), classes, fontsize=size, rotation=turn)
        axes.set_yticks(range(len(classes)), classes, fontsize=size)
    for row, column in np.argwhere(share >= 0.5) if len(classes) <= NUMBERED else ():
        colour = "white" if share[row, column] > 0.55 * share.max() else "black"
        axes.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=9)
    axes.grid(False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(f"{task}: confusion matrix")
    figure.colorbar(image, ax=axes, label="share of the true class, %", shrink=0.7)
    return figure


def of_results(results: Mapping[str, Any]) -> dict[str, Figure]:
    """Returns the plots of a probe's results, by file name."""
    found = {}
    for task, part in results["tasks"].items():
        if len(part["heads"]) > 2:
            found[f"{task}_layers"] = by_layer(part, task)
        if len(part.get("layer_weights", ())) > 1:
            found[f"{task}_layer_weights"] = layer_weights(part["layer_weights"], task)
        if "confusion" in part:
            found[f"{task}_confusion"] = confusion(part["confusion"], part["classes"], task)
        if part.get("curve"):
            found[f"{task}_curve"] = learning_curve(part, task)
    return found
