"""What the clusters of a model are worth: how evenly it uses them, how long they last, what they say about phones.

High usage entropy is no merit by itself: labels drawn at random score 100%, and raw k-means labels .99. So every
figure is shown beside the same figure for the target labels and for random labels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np


def usage(labels: Sequence[np.ndarray], clusters: int) -> np.ndarray:
    """How many frames fall to each cluster: (K,)."""
    return np.bincount(np.concatenate(labels), minlength=clusters)


def usage_entropy(counts: np.ndarray) -> float:
    """-Σ p_k ln p_k / ln K of the histogram (K,): 1 if all clusters are used alike, 0 if one is."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum() / np.log(len(counts))) + 0.0


def adjacent_consistency(labels: Sequence[np.ndarray]) -> float:
    """The share of neighbouring frames of an utterance that have the same label."""
    same = sum(int((ids[1:] == ids[:-1]).sum()) for ids in labels)
    return same / max(1, sum(len(ids) - 1 for ids in labels))


def contingency(phones: np.ndarray, labels: np.ndarray, clusters: int) -> np.ndarray:
    """Frames of phone p in cluster k: (P, K). phones and labels (N,); phones may be of any type."""
    _, rows = np.unique(phones, return_inverse=True)
    count = int(rows.max()) + 1
    return np.bincount(rows * clusters + labels, minlength=count * clusters).reshape(count, clusters)


def pnmi(table: np.ndarray) -> float:
    """I(phone; cluster) / H(phone) of a contingency table (P, K) (HuBERT, arXiv 2106.07447, section V.C)."""
    joint = table / table.sum()
    phone, cluster = joint.sum(1, keepdims=True), joint.sum(0, keepdims=True)
    seen = joint > 0
    information = (joint[seen] * np.log(joint[seen] / (phone * cluster)[seen])).sum()
    phone = phone[phone > 0]
    return float(information / max(-(phone * np.log(phone)).sum(), 1e-12))


def phone_purity(table: np.ndarray) -> float:
    """How often a frame's phone is the commonest of its cluster (HuBERT): frame accuracy of cluster -> phone."""
    return float(table.max(0).sum() / table.sum())


def cluster_purity(table: np.ndarray) -> float:
    """How often a frame's cluster is the commonest of its phone (HuBERT): falls as K grows."""
    return float(table.max(1).sum() / table.sum())


def figures(labels: Sequence[np.ndarray], clusters: int, phones: Sequence[np.ndarray] | None = None) -> dict[str, Any]:
    """All figures of one labelling. labels: (T,) per utterance; phones: (T,) strings, '' in silence."""
    counts = usage(labels, clusters)
    found = {
        "usage_entropy": usage_entropy(counts),
        "adjacent_consistency": adjacent_consistency(labels),
        "used_clusters": int((counts > 0).sum()),
    }
    if phones is not None:
        spoken = np.concatenate(phones) != ""
        if spoken.any():
            table = contingency(np.concatenate(phones)[spoken], np.concatenate(labels)[spoken], clusters)
            found |= {
                "pnmi": pnmi(table),
                "phone_purity": phone_purity(table),
                "cluster_purity": cluster_purity(table),
            }
    return found


def random_labels(lengths: Sequence[int], clusters: int, seed: int) -> list[np.ndarray]:
    """Labels drawn evenly, frame by frame: what the figures say about nothing at all."""
    generator = np.random.default_rng(seed)
    return [generator.integers(0, clusters, length) for length in lengths]


def effective_rank(gram: np.ndarray) -> float:
    """exp of the entropy of the normalised singular values of x, from xᵀx (D, D) (Roy and Vetterli 2007).

    D for features that fill all directions alike, 1 for features on a line.
    """
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(np.asarray(gram, np.float64)), 0))
    p = singular / max(singular.sum(), 1e-300)
    p = p[p > 1e-6]  # below that is the rounding of the eigenvalues
    return float(np.exp(-(p * np.log(p)).sum()))
