"""Plots of transitions between clusters, of a head's entropy, and of several checkpoints."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from jepa_speech.analysis import clusters
from jepa_speech.analysis.hesitation import BINS, Hesitation
from jepa_speech.probing.plots import KINDS, RANDOM, canvas, styled

SHOWN_CLUSTERS = 24  # clusters in a co-occurrence map; with more, the axes would be illegible
LEAST = 20  # fewest frames of a cluster whose self-transition is plotted; with fewer it is mostly noise
NUMBERED = 7  # most layers for which a CKA map shows its numbers
CHECKPOINTS = ("#2f5d9b", "#b0413e", "#4b9a72", "#8a5aa8", "#b8892b", "#3a9fb5")  # colours of checkpoints, in order


@styled
def self_transitions(followed: Mapping[str, np.ndarray]) -> Figure:
    """Plots P(i | i) of each cluster in falling order. followed: labelling -> co-occurrences (K, K)."""
    figure, ((axes,),) = canvas()
    for name in reversed(list(followed)):
        table = followed[name]
        stay = clusters.self_transitions(table)[table.sum(1) >= LEAST]
        axes.plot(
            np.arange(1, len(stay) + 1), np.sort(stay)[::-1], color=KINDS[name], label=name,
            lw=2 if name == "model" else 4, alpha=1 if name == "model" else 0.6,
        )  # fmt: skip
    axes.set_ylim(0, 1)
    axes.set_xlim(1, None)
    axes.set_xlabel(f"cluster, by rank (clusters with at least {LEAST} frames)")
    axes.set_ylabel("P(same cluster in the next frame)")
    axes.set_title("Self-transition: the mean duration is 1 / (1 - P) frames (the model should follow its targets)")
    axes.legend()
    return figure


@styled
def cooccurrence(followed: Mapping[str, np.ndarray], usage: Mapping[str, np.ndarray]) -> Figure:
    """Plots P(next | cluster) among the clusters that the targets (or the model) use most, in one order for all."""
    first = "targets" if "targets" in followed else next(iter(followed))
    chosen = np.argsort(-usage[first], kind="stable")[:SHOWN_CLUSTERS]
    chosen = chosen[seriation(followed[first][np.ix_(chosen, chosen)])]
    figure, grid = canvas(1, len(followed), (3.4 * len(followed) + 0.8, 3.9), sharey=True)
    for axes, (name, table) in zip(grid[0], followed.items(), strict=True):
        p = (table / np.maximum(table.sum(1, keepdims=True), 1))[np.ix_(chosen, chosen)]
        image = axes.imshow(np.maximum(p, 1e-9), cmap="magma", norm=LogNorm(1e-3, 1))
        axes.set_xticks(range(len(chosen)), [str(i) for i in chosen], rotation=90, fontsize=6)
        axes.set_yticks(range(len(chosen)), [str(i) for i in chosen], fontsize=6)
        axes.grid(False)
        axes.set_title(name)
        axes.set_xlabel("next frame's cluster")
    grid[0, 0].set_ylabel("cluster")
    figure.colorbar(image, ax=grid[0].tolist(), label="P(next | cluster), log", shrink=0.85, extend="min")
    figure.suptitle(
        f"Transitions between the {len(chosen)} most used clusters (model and targets should look similar)",
        x=0.01, ha="left", size=11, weight="bold",
    )  # fmt: skip
    return figure


def seriation(table: np.ndarray) -> np.ndarray:
    """Returns an order (K,) in which clusters that follow each other are close, by the Fiedler vector of (K, K)."""
    both = table / np.maximum(table.sum(1, keepdims=True), 1)
    both = both + both.T
    np.fill_diagonal(both, 0)
    _, vectors = np.linalg.eigh(np.diag(both.sum(1)) - both)
    return np.argsort(vectors[:, min(1, len(table) - 1)], kind="stable")


@styled
def hesitation(found: Hesitation) -> Figure:
    """Plots histograms of posterior entropy at masked and at visible frames, for the model and its targets."""
    figure, ((axes,),) = canvas()
    middles = (np.arange(BINS) + 0.5) * found.highest / BINS
    for (name, where), counts in sorted(found.histograms.items(), reverse=True):
        if counts.sum():
            share = 100 * counts / counts.sum()
            axes.plot(
                middles, share, color=KINDS[name], lw=2, ls="-" if where == "hidden" else (0, (2, 1.5)),
                label=f"{name}, {'masked' if where == 'hidden' else where} frames",
            )  # fmt: skip
    axes.axvline(found.highest, color=RANDOM, lw=2, label="random: ln K")
    axes.set_xlim(0, 1.02 * found.highest)
    axes.set_ylim(0, None)
    axes.set_xlabel("posterior entropy, nats")
    axes.set_ylabel(f"share of frames, % (in {BINS} steps)")
    axes.set_title(f"Entropy of the posteriors, with {100 * found.share:.0f}% of frames masked")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@styled
def dots(found: Mapping[str, Mapping[str, Mapping[str, Any]]], names: Mapping[str, str]) -> Figure:
    """Plots a small panel per figure with a line per checkpoint: the values of model, targets and random labels.

    found: checkpoint -> labelling -> figure -> value. names: figure -> title.
    """
    across = 3
    down = -(-len(names) // across)
    figure, grid = canvas(down, across, (10.5, down * (0.85 + 0.3 * len(found)) + 0.5), sharey=True)
    marks = {"random": ("X", 6, RANDOM), "targets": ("D", 7, KINDS["targets"]), "model": ("o", 9, KINDS["model"])}
    for axes, (key, title) in zip(grid.flat, names.items(), strict=False):
        for height, labellings in enumerate(found.values()):
            known = {kind: labellings[kind][key] for kind in marks if key in labellings.get(kind, {})}
            axes.plot(list(known.values()), [height] * len(known), color="#d5d8dc", lw=2, zorder=1)
            for kind, value in known.items():
                mark, size, colour = marks[kind]
                axes.plot(value, height, mark, ms=size, color=colour, mec="white", mew=0.8)
            if "model" not in known:
                axes.text(0.5, height, "–", transform=axes.get_yaxis_transform(), ha="center", va="center")
        axes.set_title(title, size=9)
        axes.margins(x=0.1)
        axes.tick_params(axis="x", labelsize=8)
        axes.tick_params(axis="y", length=0)
    for axes in grid.flat[len(names) :]:
        axes.axis("off")
    grid[0, 0].set_ylim(len(found) - 0.5, -0.5)
    grid[0, 0].set_yticks(range(len(found)), [short(name) for name in found])
    handles = [
        figure.axes[0].plot([], [], mark, ms=size, color=colour, label=kind)[0]
        for kind, (mark, size, colour) in reversed(marks.items())
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=3)
    return figure


@styled
def ranks(found: Mapping[str, tuple[Sequence[float], int]]) -> Figure:
    """Plots the effective rank of every layer. found: checkpoint -> (a rank per layer, the layers' width)."""
    figure, ((axes,),) = canvas()
    for number, (name, (values, width)) in enumerate(found.items()):
        axes.plot(range(len(values)), values, label=f"{short(name)}, of {width}", **line(number))
    axes.set_xticks(range(max(len(values) for values, _ in found.values())))
    axes.set_ylim(0, 1.1 * max(max(values) for values, _ in found.values()))
    axes.set_xlabel("layer")
    axes.set_ylabel("effective rank")
    axes.set_title("Effective rank by layer (a rank near 1 is collapse; a higher rank is not better in itself)")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@styled
def cka_maps(maps: Mapping[tuple[str, str], np.ndarray], layers: Mapping[str, Sequence[int]]) -> Figure:
    """Plots heat maps of CKA between layers of all pairs of systems, as a lower triangle.

    maps: (a, b) -> (layers of a, layers of b), in one of the two orders of each pair. layers: the layers' numbers.
    """
    names = list(layers)
    side = 4.4 if len(names) == 1 else max(1.9, 9 / len(names))
    figure, grid = canvas(len(names), len(names), (side * len(names) + 1, side * len(names) + 0.4))
    for row, below in enumerate(names):
        for column, left in enumerate(names):
            axes = grid[row, column]
            table = maps.get((left, below))
            if column > row or table is None:
                axes.axis("off")
                continue
            image = axes.imshow(table.T, origin="lower", cmap="viridis", vmin=0, vmax=1, aspect="auto")
            axes.grid(False)
            for set_ticks, name in ((axes.set_xticks, left), (axes.set_yticks, below)):
                at = range(0, len(layers[name]), -(-len(layers[name]) // 13))
                set_ticks(at, [str(layers[name][i]) for i in at], fontsize=8)
            if max(table.shape) <= NUMBERED and len(names) <= 3:
                for (x, y), value in np.ndenumerate(table):
                    dark = "black" if value > 0.6 else "white"
                    axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=7, color=dark)
            if row == len(names) - 1 or maps.get((left, names[row + 1])) is None:
                axes.set_xlabel(f"layer of {short(left)}", fontsize=9)
            if column == 0 or maps.get((names[column - 1], below)) is None:
                axes.set_ylabel(f"layer of {short(below)}", fontsize=9)
    figure.colorbar(image, ax=grid.ravel().tolist(), label="linear CKA", shrink=0.6)
    title = "CKA between layers (1: the same up to rotation and scale, 0: nothing in common)"
    lines = textwrap.fill(title, int(11 * figure.get_figwidth()))
    figure.suptitle(lines, x=0.01, ha="left", size=11, weight="bold")
    return figure


@styled
def cka_labels(found: Mapping[str, Mapping[str, Sequence[float]]], layers: Mapping[str, Sequence[int]]) -> Figure:
    """Plots the CKA of every layer with target and random labels. found: checkpoint -> labelling -> value per layer."""
    figure, ((axes,),) = canvas()
    for number, (name, labellings) in enumerate(found.items()):
        if "targets" in labellings:
            axes.plot(layers[name], np.array(labellings["targets"], float), label=short(name), **line(number))
        label = "random labels" if number == len(found) - 1 else None
        axes.plot(layers[name], np.array(labellings["random"], float), color=RANDOM, ls=":", lw=2, label=label)
    axes.set_xticks(sorted({layer for name in found for layer in layers[name]}))
    axes.set_ylim(0, None)
    axes.set_xlabel("layer")
    axes.set_ylabel("linear CKA with one-hot labels")
    axes.set_title("CKA of each layer with the target labels (lines) and with random labels (dotted)")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def line(number: int) -> dict[str, Any]:
    """Returns the style of a checkpoint's line. After the last colour, colours repeat with another marker."""
    turn, colour = divmod(number, len(CHECKPOINTS))
    return {"color": CHECKPOINTS[colour], "marker": "osD^"[turn % 4], "lw": 2}


def short(name: str) -> str:
    return name if len(name) <= 26 else f"…{name[-25:]}"
