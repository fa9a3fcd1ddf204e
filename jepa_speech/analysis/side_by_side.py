"""Tables and plots of an analysis of one or several checkpoints."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jepa_speech.analysis import cluster_plots
from jepa_speech.analysis.cka import LinearCka
from jepa_speech.analysis.collect import Analysis, labels_of
from jepa_speech.probing import plots

FIGURES = {
    "usage_entropy": ("usage entropy (1: all equal)", "{:.3f}"),
    "used_clusters": ("used clusters", "{:d}"),
    "adjacent_consistency": ("adjacent consistency", "{:.3f}"),
    "self_transition": ("self-transition, mean of clusters", "{:.3f}"),
    "successor_perplexity": ("successor perplexity", "{:.2f}"),
    "posterior_perplexity": ("posterior perplexity", "{:.2f}"),
    "entropy_hidden": ("posterior entropy, masked frames", "{:.3f}"),
    "entropy_visible": ("posterior entropy, visible frames", "{:.3f}"),
    "kl_hidden": ("KL to targets, masked frames", "{:.3f}"),
    "kl_visible": ("KL to targets, visible frames", "{:.3f}"),
    "pnmi": ("PNMI", "{:.3f}"),
    "phone_purity": ("phone purity", "{:.3f}"),
    "cluster_purity": ("cluster purity", "{:.3f}"),
    "effective_rank": ("effective rank, last layer", "{:.1f}"),
}
MISSING = "–"

Columns = dict[str, dict[str, Any]]  # heading -> figures


def columns(found: Mapping[str, Analysis]) -> Columns:
    """Returns the figures of every checkpoint, of targets and of random labels; equal columns are merged."""
    shown = {"model" if len(found) == 1 else name: own_figures(analysis) for name, analysis in found.items()}
    for labelling in ("targets", "random"):
        groups: list[tuple[list[str], dict[str, Any]]] = []
        for name, analysis in found.items():
            if (values := analysis.table.get(labelling)) is None:
                continue
            for names, others in groups:
                if agree(values, others):
                    names.append(name)
                    others |= values
                    break
            else:
                groups.append(([name], dict(values)))
        for names, values in groups:
            shown[labelling if len(groups) == 1 else f"{labelling} of {', '.join(names)}"] = values
    return shown


def own_figures(analysis: Analysis) -> dict[str, Any]:
    """Returns the checkpoint's own column; without a cluster head, only the effective rank."""
    return analysis.table.get("model", {"effective_rank": analysis.ranks[-1]})


def agree(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two columns have equal values for all figures that both have."""
    return all(a[key] == b[key] for key in a.keys() & b.keys())


def rows(shown: Columns) -> list[list[str]]:
    """Returns the figures as a table of text with a header: one row per figure, "–" for missing values."""
    lines = [["", *shown]]
    for key, (name, form) in FIGURES.items():
        if any(key in values for values in shown.values()):
            lines.append([name, *(form.format(v[key]) if key in v else MISSING for v in shown.values())])
    return lines


def figures(analysis: Analysis) -> dict[str, Figure]:
    """Returns the plots of one checkpoint, by file name."""
    example = analysis.example
    of = "phone" if analysis.sample_labels.dtype.kind == "U" else "cluster" if analysis.usage else ""
    found = {}
    if analysis.example_labels:
        found["clusters"] = plots.clusters_over_time(example.wave, analysis.example_labels, example.segments)
        found["usage"] = plots.usage(analysis.usage)
        found["duration"] = cluster_plots.self_transitions(analysis.followed)
        found["cooccurrence"] = cluster_plots.cooccurrence(analysis.followed, analysis.usage)
    if analysis.hesitation is not None:
        found["hesitation"] = cluster_plots.hesitation(analysis.hesitation)
    found["effective_rank"] = plots.rank_by_layer(analysis.ranks, analysis.width)
    found["similarity"] = plots.similarity(analysis.example_features, example.segments, analysis.frame_rate)
    found["projection"] = plots.projection(analysis.sample, analysis.sample_labels, of)
    return found


def shared_figures(found: Mapping[str, Analysis]) -> dict[str, Figure]:
    """Returns the plots that compare all checkpoints, by file name."""
    if len(found) == 1:
        return {}
    per = {name: analysis.table | {"model": own_figures(analysis)} for name, analysis in found.items()}
    names = {key: name for key, (name, _) in FIGURES.items() if any(key in v for t in per.values() for v in t.values())}
    ranks = {name: (analysis.ranks, analysis.width) for name, analysis in found.items()}
    return {"figures": cluster_plots.dots(per, names), "ranks": cluster_plots.ranks(ranks)}


def similarities(ckas: Sequence[LinearCka], found: Mapping[str, Analysis]) -> dict[str, Any]:
    """Returns CKA as plain values.

    pairs: {"of", "with", "cka": rows are layers of the one, columns layers of the other} · labels: checkpoint ->
    labelling -> value per layer · layers: checkpoint -> the compared layers, counted from 0.
    """
    pairs, labels = [], {}
    layers: dict[str, Any] = {}
    for cka in ckas:
        for a, b in cka.pairs:
            if a in found and b in found:
                pairs.append({"of": a, "with": b, "cka": plain(cka.between(a, b))})
                layers |= {name: cka.layers[name] for name in (a, b)}
            elif a in found:
                kinds = [kind for kind in ("targets", "random") if kind in found[a].usage]
                labels[a] = dict(zip(kinds, plain(cka.between(a, labels_of(a)).T), strict=True))
    return {"frames": max(cka.frames for cka in ckas), "layers": layers, "pairs": pairs, "labels": labels}


def plain(table: np.ndarray) -> list[list[float | None]]:
    """Returns rounded values, with None for NaN."""
    return [[round(float(x), 6) if np.isfinite(x) else None for x in row] for row in table]


def cka_figures(similar: Mapping[str, Any]) -> dict[str, Figure]:
    """Returns heat maps of all pairs, and the CKA of each layer with the labels."""
    maps = {(pair["of"], pair["with"]): np.array(pair["cka"], float) for pair in similar["pairs"]}
    drawn = {"cka": cluster_plots.cka_maps(maps, similar["layers"])}
    if similar["labels"]:
        drawn["cka_labels"] = cluster_plots.cka_labels(similar["labels"], similar["layers"])
    return drawn


def left_out(found: Mapping[str, Analysis]) -> list[str]:
    """Returns a sentence about checkpoints without CKA, because their frame rates differ; [] if there are none."""
    rates: dict[float, list[str]] = {}
    for name, analysis in found.items():
        rates.setdefault(analysis.frame_rate, []).append(name)
    groups = [f"{', '.join(names)} ({rate:g} frames per second)" for rate, names in rates.items()]
    return [f"No CKA between {' and '.join(groups)}: it needs the same frames."] if len(groups) > 1 else []
