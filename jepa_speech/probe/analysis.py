"""A look inside a checkpoint over a fixed list of recordings: its clusters beside its targets, its layers' ranks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from jepa_speech.anchors.gmm import DiagonalGMM, frame_posteriors
from jepa_speech.data import audio
from jepa_speech.data.store import Store
from jepa_speech.features import spectral
from jepa_speech.features.grid import SAMPLE_RATE, frames
from jepa_speech.probe import clusters, plots
from jepa_speech.probe.baselines import baseline, pad, standardise
from jepa_speech.probe.dataset import read_manifest, with_phones
from jepa_speech.probe.phones import frame_phones

KEPT_FRAMES = 4000  # for the 2-d picture
FIGURES = {
    "usage_entropy": ("usage entropy (1: all alike)", "{:.3f}"),
    "adjacent_consistency": ("adjacent consistency", "{:.3f}"),
    "used_clusters": ("used clusters", "{:d}"),
    "posterior_perplexity": ("posterior perplexity", "{:.2f}"),
    "pnmi": ("PNMI", "{:.3f}"),
    "phone_purity": ("phone purity", "{:.3f}"),
    "cluster_purity": ("cluster purity", "{:.3f}"),
}

Posteriors = Callable[[np.ndarray], np.ndarray]  # wave (S,) at 16 kHz -> (T, K)


class Recording(NamedTuple):
    name: str
    wave: np.ndarray  # (S,) float32 at 16 kHz
    segments: list[tuple[str, float, float]] | None = None  # phones, where they are known


@dataclass(frozen=True)
class Analysis:
    """`table`: figure -> of "model", "targets", "random" (those there are). Labels: (T,) per recording."""

    recordings: int
    seconds: float
    clusters: int
    table: dict[str, dict[str, Any]]
    ranks: list[float]
    width: int
    usage: dict[str, np.ndarray]  # (K,)
    sample: np.ndarray  # (N, D) frames of the last layer
    sample_labels: np.ndarray  # (N,) their phones, or their clusters where no phones are known
    example: Recording
    example_labels: dict[str, np.ndarray]  # (T,)
    example_features: np.ndarray  # (T, D) of the last layer

    def summary(self) -> dict[str, Any]:
        """What results files hold: plain JSON values."""
        return {
            "recordings": self.recordings,
            "seconds": round(self.seconds, 2),
            "clusters": self.clusters,
            "figures": self.table,
            "effective_rank": self.ranks,
            "width": self.width,
        }


def from_store(store: Store, count: int, seed: int, seconds: float) -> Iterable[Recording]:
    """`count` recordings drawn by the seed alone, each at most `seconds` long, read one at a time."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(store))[:count])
    for i in chosen:
        yield Recording(f"recording {i}", store.read(int(i), 0, int(seconds * SAMPLE_RATE)))


def from_manifest(folder: Path, split: str, count: int, seed: int, seconds: float) -> Iterable[Recording]:
    """The same from a split of labelled recordings, with their phones."""
    utterances = with_phones(read_manifest(folder / f"{split}.manifest.jsonl", "audio_path"), folder)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(utterances))[:count])
    for i in chosen:
        wave = audio.load(utterances[i].path)[: int(seconds * SAMPLE_RATE)].astype(np.float32)
        yield Recording(utterances[i].key, wave / audio.FULL_SCALE, utterances[i].target)


def anchor_posteriors(anchor: DiagonalGMM) -> Posteriors:
    """The target labels of any recording, computed as `label` does."""

    @jax.jit
    def compute(arrays, wave, length, mean):
        return frame_posteriors(arrays, anchor.features, wave[None], mean[None], length[None])[0]

    arrays = anchor.arrays()
    features = baseline(anchor.features)

    def posteriors(wave: np.ndarray) -> np.ndarray:
        mean = np.zeros(spectral.DIMS[anchor.features], np.float32)
        if anchor.normalize == "mean":
            mean = features(wave, SAMPLE_RATE)[0].mean(0)
        level = standardise(wave, SAMPLE_RATE)
        found = compute(arrays, pad(level), np.int32(len(wave)), jnp.asarray(mean))
        return np.asarray(found)[: frames(len(wave))]

    return posteriors


def analyse(
    recordings: Iterable[Recording],
    represent: Callable[[np.ndarray], Sequence[np.ndarray]],
    model: Posteriors | None,
    targets: Posteriors | None,
    seed: int = 0,
) -> Analysis:
    """Runs every recording once through the model and its anchor.

    represent: wave (S,) at 16 kHz -> layers [(T, D), ...]. model: its cluster head, None if it has none.
    targets: the anchor it was trained with, None where that is not at hand.
    """
    heads = {name: head for name, head in (("model", model), ("targets", targets)) if head is not None}
    labels: dict[str, list[np.ndarray]] = {name: [] for name in heads}
    entropy, sizes = dict.fromkeys(heads, 0.0), dict.fromkeys(heads, 0)
    phones, last, lengths, seconds = [], [], [], 0.0
    sums, grams, example = None, None, None
    for recording in recordings:
        layers = np.stack([np.asarray(layer, np.float64) for layer in represent(recording.wave)])  # (L, T, D)
        sums = layers.sum(1) + (0 if sums is None else sums)
        grams = layers.swapaxes(1, 2) @ layers + (0 if grams is None else grams)
        lengths.append(layers.shape[1])
        last.append(layers[-1].astype(np.float32))
        seconds += len(recording.wave) / SAMPLE_RATE
        for name, head in heads.items():
            p = np.asarray(head(recording.wave), np.float64)  # (T, K)
            labels[name].append(p.argmax(1))
            entropy[name] -= float((p * np.log(np.maximum(p, 1e-30))).sum())
            sizes[name] = p.shape[1]
        if recording.segments is not None:
            phones.append(frame_phones(recording.segments, layers.shape[1]))
        example = example or recording
    known = phones if len(phones) == len(lengths) else None
    clusters_of = next(iter(sizes.values()), 0)
    table = {name: clusters.figures(labels[name], clusters_of, known) for name in heads}
    for name in heads:
        table[name]["posterior_perplexity"] = float(np.exp(entropy[name] / sum(lengths)))
    usage = {name: clusters.usage(labels[name], clusters_of) for name in heads}
    if heads:
        drawn = clusters.random_labels(lengths, clusters_of, seed)
        table["random"] = clusters.figures(drawn, clusters_of, known)
        usage["random"] = clusters.usage(drawn, clusters_of)
    colours = phones if known else next(iter(labels.values()), [np.zeros(n, int) for n in lengths])
    sample, sample_labels = _thinned(np.concatenate(last), np.concatenate(colours), seed)
    covariances = grams - sums[:, :, None] * sums[:, None] / sum(lengths)
    return Analysis(
        recordings=len(lengths),
        seconds=seconds,
        clusters=clusters_of,
        table=table,
        ranks=[clusters.effective_rank(c) for c in covariances],
        width=covariances.shape[-1],
        usage=usage,
        sample=sample,
        sample_labels=sample_labels,
        example=example,
        example_labels={name: ids[0] for name, ids in labels.items()},
        example_features=last[0],
    )


def _thinned(features: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """At most KEPT_FRAMES frames, silence left out where phones are known."""
    chosen = np.flatnonzero(labels != "") if labels.dtype.kind == "U" else np.arange(len(labels))
    chosen = np.random.default_rng(seed).permutation(chosen)[:KEPT_FRAMES]
    return features[chosen], labels[chosen]


def rows(table: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The figures as a table of text, a header first: one row per figure, one column per labelling."""
    lines = [["", *table]]
    for key, (name, form) in FIGURES.items():
        if any(key in values for values in table.values()):
            lines.append([name, *(form.format(v[key]) if key in v else "" for v in table.values())])
    return lines


def figures(analysis: Analysis) -> dict[str, Figure]:
    """The pictures of an analysis, by file name."""
    example = analysis.example
    of = "phone" if analysis.sample_labels.dtype.kind == "U" else "cluster"
    found = {}
    if analysis.example_labels:
        logmel = baseline("logmel")(example.wave, SAMPLE_RATE)[0]
        found["clusters"] = plots.clusters_over_time(logmel, analysis.example_labels, example.segments)
        found["usage"] = plots.usage(analysis.usage)
    found["effective_rank"] = plots.rank_by_layer(analysis.ranks, analysis.width)
    found["similarity"] = plots.similarity(analysis.example_features, example.segments)
    found["projection"] = plots.projection(analysis.sample, analysis.sample_labels, of)
    return found
