"""Collects figures of checkpoints over one list of recordings: clusters, ranks of layers, similarity of layers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.analysis import clusters
from jepa_speech.analysis.cka import LinearCka, Pair
from jepa_speech.analysis.hesitation import Hesitation, entropy
from jepa_speech.analysis.recordings import Recording
from jepa_speech.anchors.anchor import Anchor, Arrays
from jepa_speech.anchors.gmm import frame_posteriors
from jepa_speech.errors import UsageError, UserError
from jepa_speech.features import spectral
from jepa_speech.features.grid import FRAME_RATE, SAMPLE_RATE, frames
from jepa_speech.probing.baselines import baseline, pad, standardise
from jepa_speech.probing.phones import frame_phones

KEPT_FRAMES = 4000  # frames in the two-dimensional plot
FRAMES_EACH = 200  # frames per recording for CKA, evenly spaced: neighbours are similar, and products are expensive

Posteriors = Callable[[np.ndarray], np.ndarray]  # wave (S,) at 16 kHz -> (T, K)


@dataclass(frozen=True)
class Subject:
    """A checkpoint as functions of a wave (S,) at 16 kHz. A function is None if the checkpoint lacks its part.

    represent: layers [(T, D), ...], at `frame_rate` · model: posteriors of the cluster head
    masked: (wave, number of the recording) -> posteriors of the head (T, K) with masked input, and the mask (T,)
    targets: posteriors of the anchor of the training. The last three are at 50 frames per second.
    """

    represent: Callable[[np.ndarray], Sequence[np.ndarray]]
    model: Posteriors | None = None
    targets: Posteriors | None = None
    masked: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]] | None = None
    frame_rate: float = FRAME_RATE

    @property
    def labelled(self) -> bool:
        return self.model is not None or self.targets is not None


@dataclass(frozen=True)
class Analysis:
    """The analysis of one checkpoint. table: labelling ("model", "targets", "random") -> figure -> value."""

    recordings: int
    seconds: float
    frame_rate: float
    clusters: int
    table: dict[str, dict[str, Any]]
    ranks: list[float]
    width: int
    usage: dict[str, np.ndarray]  # (K,)
    followed: dict[str, np.ndarray]  # (K, K) co-occurrence
    hesitation: Hesitation | None
    sample: np.ndarray  # (N, D) frames of the last layer
    sample_labels: np.ndarray  # (N,) their phones; without phones, their clusters
    example: Recording
    example_labels: dict[str, np.ndarray]  # (T,)
    example_features: np.ndarray  # (T, D) of the last layer

    def summary(self) -> dict[str, Any]:
        """Returns the contents of results files: plain JSON values."""
        return {
            "recordings": self.recordings,
            "seconds": round(self.seconds, 2),
            "frame_rate": self.frame_rate,
            "clusters": self.clusters,
            "figures": self.table,
            "effective_rank": self.ranks,
            "width": self.width,
        }


def anchor_posteriors(anchor: Anchor) -> Posteriors:
    """Returns a function that computes an anchor's posteriors of a wave like `label`."""

    @jax.jit
    def compute(arrays: Arrays, wave: jax.Array, length: jax.Array, mean: jax.Array) -> jax.Array:
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
    recordings: Iterable[Recording], subjects: Mapping[str, Subject], seed: int = 0, compared: bool = True
) -> tuple[dict[str, Analysis], list[LinearCka]]:
    """Runs every recording once through every subject and its anchor; returns analyses, and CKA per frame rate.

    compared: also compute CKA of every subject with itself, with the others of its frame rate, and with its labels. The
    labels are one-hot vectors of a system `labels_of(name)`, whose "layers" are the labellings targets (if there are
    any) and random. Raises UsageError if targets and head have different numbers of clusters.
    """
    looks = {name: Look(name, subject, seed) for name, subject in subjects.items()}
    rates: dict[float, list[str]] = {}
    for name, subject in subjects.items():
        rates.setdefault(subject.frame_rate, []).append(name)
    ckas = {rate: LinearCka(cka_pairs(names, subjects)) for rate, names in rates.items()} if compared else {}
    for number, recording in enumerate(recordings):
        features: dict[str, Sequence[np.ndarray]] = {}
        for name, look in looks.items():
            features[name], features[labels_of(name)] = look.add(number, recording)
        for cka in ckas.values():
            cka.add(same_frames({name: features[name] for pair in cka.pairs for name in pair}))
    if not any(look.lengths for look in looks.values()):
        raise UserError("there are no recordings to analyse")
    return {name: look.done() for name, look in looks.items()}, list(ckas.values())


def labels_of(name: str) -> str:
    return f"labels of {name}"


def cka_pairs(names: Sequence[str], subjects: Mapping[str, Subject]) -> list[Pair]:
    """Returns all pairs of `names` (of one frame rate), including each with itself and with its labels."""
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i:]]
    labelled = [name for name in names if subjects[name].labelled and subjects[name].frame_rate == FRAME_RATE]
    return pairs + [(name, labels_of(name)) for name in labelled]


def same_frames(features: Mapping[str, Sequence[np.ndarray]]) -> dict[str, list[np.ndarray]]:
    """Returns the same frames of all systems, at most FRAMES_EACH, evenly spaced, up to the end of the shortest."""
    count = min(len(layers[0]) for layers in features.values())
    at = np.linspace(0, count - 1, min(count, FRAMES_EACH)).round().astype(int)
    return {name: [layer[at] for layer in layers] for name, layers in features.items()}


class Look:
    """Accumulates the figures of one subject over recordings."""

    def __init__(self, name: str, subject: Subject, seed: int):
        self.name, self.subject, self.seed = name, subject, seed
        found = {"model": subject.model, "targets": subject.targets}
        self.heads = {labelling: head for labelling, head in found.items() if head is not None}
        self.labels: dict[str, list[np.ndarray]] = {labelling: [] for labelling in self.heads}
        if self.heads:
            self.labels["random"] = []
        self.entropy = dict.fromkeys(self.heads, 0.0)
        self.clusters = 0
        self.hesitation: Hesitation | None = None
        self.phones: list[np.ndarray] = []
        self.lengths: list[int] = []  # of the labels
        self.frames, self.seconds = 0, 0.0  # of the layers
        self.sums: np.ndarray = np.zeros(())  # (L, D)
        self.grams: np.ndarray = np.zeros(())  # (L, D, D)
        self.example: Recording | None = None
        self.sample: list[np.ndarray] = []  # frames of the last layer; `places` are their positions among the labels
        self.places: list[np.ndarray] = []

    def add(self, number: int, recording: Recording) -> tuple[Sequence[np.ndarray], Sequence[np.ndarray]]:
        """Adds a recording; returns its layers [(T, D), ...], and target and random labels, one-hot [(T, K), ...]."""
        layers = np.stack([np.asarray(layer, np.float64) for layer in self.subject.represent(recording.wave)])
        self.sums = layers.sum(1) + self.sums
        self.grams = layers.swapaxes(1, 2) @ layers + self.grams
        self.frames += layers.shape[1]
        self.seconds += len(recording.wave) / SAMPLE_RATE
        answers = {labelling: np.asarray(head(recording.wave), np.float64) for labelling, head in self.heads.items()}
        length = len(next(iter(answers.values()))) if answers else frames(len(recording.wave))
        self._label(number, recording, answers, length)
        if recording.segments is not None:
            self.phones.append(frame_phones(recording.segments, length))
        if self.example is None:
            self.example, self.example_features = recording, layers[-1].astype(np.float32)
        at = np.random.default_rng([self.seed, number]).permutation(layers.shape[1])[:FRAMES_EACH]
        self.sample.append(layers[-1, at].astype(np.float32))
        nearest = np.round(at * FRAME_RATE / self.subject.frame_rate).astype(int)
        self.places.append(sum(self.lengths) + np.minimum(nearest, length - 1))
        self.lengths.append(length)
        one_hot = [
            np.eye(self.clusters, dtype=np.float32)[ids[-1]] for name, ids in self.labels.items() if name != "model"
        ]
        return list(layers), one_hot

    def _label(self, number: int, recording: Recording, answers: Mapping[str, np.ndarray], length: int) -> None:
        if not answers:
            return
        if len(sizes := {p.shape[1] for p in answers.values()}) > 1:
            raise UsageError(
                f"{self.name}: its cluster head has {answers['model'].shape[1]} clusters, but the anchor has "
                f"{answers['targets'].shape[1]}: pass the anchor of the run"
            )
        self.clusters = sizes.pop()
        for labelling, p in answers.items():
            self.labels[labelling].append(p.argmax(1))
            self.entropy[labelling] += float(entropy(p).sum())
        self.labels["random"] += clusters.random_labels([length], self.clusters, [self.seed, number])
        if self.subject.masked is not None:
            self.hesitation = self.hesitation or Hesitation(self.clusters)
            p, mask = self.subject.masked(recording.wave, number)
            self.hesitation.add(mask, np.asarray(p, np.float64), answers.get("targets"))

    def done(self) -> Analysis:
        known = self.phones if len(self.phones) == len(self.lengths) else None
        table = {name: clusters.figures(ids, self.clusters, known) for name, ids in self.labels.items()}
        usage = {name: clusters.usage(ids, self.clusters) for name, ids in self.labels.items()}
        for name, total in self.entropy.items():
            table[name]["posterior_perplexity"] = float(np.exp(total / sum(self.lengths)))
        if self.labels:
            table["random"]["posterior_perplexity"] = float(self.clusters)  # they are drawn uniformly
        if self.hesitation is not None:
            for name, values in self.hesitation.figures().items():
                table[name] |= values
        for name in table.keys() - {"model"}:
            table[name]["effective_rank"] = clusters.label_rank(usage[name])
        assert self.example is not None  # there is at least one recording
        covariances = self.grams - self.sums[:, :, None] * self.sums[:, None] / self.frames
        ranks = [clusters.effective_rank(c) for c in covariances]
        if "model" in table:
            table["model"]["effective_rank"] = ranks[-1]
        colours = known or next(iter(self.labels.values()), [np.zeros(n, int) for n in self.lengths])
        sample, sample_labels = self._thinned(np.concatenate(colours))
        return Analysis(
            recordings=len(self.lengths),
            seconds=self.seconds,
            frame_rate=self.subject.frame_rate,
            clusters=self.clusters,
            table=table,
            ranks=ranks,
            width=covariances.shape[-1],
            usage=usage,
            followed={name: clusters.cooccurrence(ids, self.clusters) for name, ids in self.labels.items()},
            hesitation=self.hesitation,
            sample=sample,
            sample_labels=sample_labels,
            example=self.example,
            example_labels={name: self.labels[name][0] for name in self.heads},
            example_features=self.example_features,
        )

    def _thinned(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns at most KEPT_FRAMES frames and their labels, without silence if phones are known. labels (T,)."""
        features, labels = np.concatenate(self.sample), labels[np.concatenate(self.places)]
        chosen = np.flatnonzero(labels != "") if labels.dtype.kind == "U" else np.arange(len(labels))
        chosen = np.random.default_rng(self.seed).permutation(chosen)[:KEPT_FRAMES]
        return features[chosen], labels[chosen]
