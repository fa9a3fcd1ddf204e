"""Figures of a model's clusters: how evenly they are used, how long they last, how they relate to phones.

A high usage entropy is not good in itself: random labels reach 1, and k-means labels 0.99. Every figure is therefore
shown beside the same figure of the target labels and of random labels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jepa_speech.anchors.frames import usage_entropy


def usage(labels: Sequence[np.ndarray], clusters: int) -> np.ndarray:
    """Returns the number of frames of each cluster, (K,)."""
    return np.bincount(np.concatenate(labels), minlength=clusters)


def adjacent_consistency(labels: Sequence[np.ndarray]) -> float:
    """Returns the share of neighbouring frames of an utterance that have the same label."""
    same = sum(int((ids[1:] == ids[:-1]).sum()) for ids in labels)
    return same / max(1, sum(len(ids) - 1 for ids in labels))


def cooccurrence(labels: Sequence[np.ndarray], clusters: int) -> np.ndarray:
    """Returns how often cluster i is followed by cluster j in the next frame of the utterance: (K, K), [i, j]."""
    pairs = np.concatenate([ids[:-1] * clusters + ids[1:] for ids in labels])
    return np.bincount(pairs, minlength=clusters**2).reshape(clusters, clusters)


def self_transitions(table: np.ndarray) -> np.ndarray:
    """Returns P(i | i) of every cluster (K,) from co-occurrences (K, K); NaN for a cluster that nothing follows."""
    followed = table.sum(1)
    return np.where(followed > 0, np.diagonal(table) / np.maximum(followed, 1), np.nan)


def self_transition(table: np.ndarray) -> float:
    """Returns the mean of P(i | i) over clusters, 0 if no frame follows another.

    Each cluster has the same weight, so that frequent silence does not dominate. Weighted by frequency, this would be
    the adjacent consistency.
    """
    of_each = self_transitions(table)
    return float(np.nanmean(of_each)) if np.isfinite(of_each).any() else 0.0


def successor_perplexity(table: np.ndarray) -> float:
    """Returns exp H(next cluster | cluster) of co-occurrences (K, K): the effective number of successors."""
    joint = table / max(table.sum(), 1)
    before = joint.sum(1, keepdims=True)
    seen = joint > 0
    return float(np.exp(-(joint[seen] * np.log((joint / np.maximum(before, 1e-300))[seen])).sum()))


def contingency(phones: np.ndarray, labels: np.ndarray, clusters: int) -> np.ndarray:
    """Returns the number of frames of phone p in cluster k, (P, K). phones (N,) of any type, labels (N,)."""
    _, rows = np.unique(phones, return_inverse=True)
    count = int(rows.max()) + 1
    return np.bincount(rows * clusters + labels, minlength=count * clusters).reshape(count, clusters)


def pnmi(table: np.ndarray) -> float:
    """Returns I(phone; cluster) / H(phone) of a contingency table (P, K) (HuBERT, arXiv 2106.07447, section V.C)."""
    joint = table / table.sum()
    phone, cluster = joint.sum(1, keepdims=True), joint.sum(0, keepdims=True)
    seen = joint > 0
    information = (joint[seen] * np.log(joint[seen] / (phone * cluster)[seen])).sum()
    phone = phone[phone > 0]
    return float(information / max(-(phone * np.log(phone)).sum(), 1e-12))


def phone_purity(table: np.ndarray) -> float:
    """Returns the share of frames whose phone is the commonest of their cluster (HuBERT)."""
    return float(table.max(0).sum() / table.sum())


def cluster_purity(table: np.ndarray) -> float:
    """Returns the share of frames whose cluster is the commonest of their phone (HuBERT). It falls as K grows."""
    return float(table.max(1).sum() / table.sum())


def figures(labels: Sequence[np.ndarray], clusters: int, phones: Sequence[np.ndarray] | None = None) -> dict[str, Any]:
    """Returns all figures of one labelling. labels: (T,) per utterance; phones: (T,) strings, '' in silence."""
    counts, followed = usage(labels, clusters), cooccurrence(labels, clusters)
    found = {
        "usage_entropy": usage_entropy(counts),
        "adjacent_consistency": adjacent_consistency(labels),
        "self_transition": self_transition(followed),
        "successor_perplexity": successor_perplexity(followed),
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


def random_labels(lengths: Sequence[int], clusters: int, seed: int | Sequence[int]) -> list[np.ndarray]:
    """Returns labels drawn uniformly for every frame, as a reference for the figures."""
    generator = np.random.default_rng(seed)
    return [generator.integers(0, clusters, length) for length in lengths]


def effective_rank(gram: np.ndarray) -> float:
    """Returns exp of the entropy of the normalised singular values of x, from xᵀx (D, D) (Roy and Vetterli 2007).

    It is D if the variance is equal in all directions, 1 for features on a line.
    """
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(np.asarray(gram, np.float64)), 0))
    p = singular / max(singular.sum(), 1e-300)
    p = p[p > 1e-6]  # smaller values are rounding errors of the eigenvalues
    return float(np.exp(-(p * np.log(p)).sum()))


def label_rank(counts: np.ndarray) -> float:
    """Returns the effective rank of one-hot labels from their histogram (K,): K - 1 if all are used equally."""
    return effective_rank(np.diag(counts) - np.outer(counts, counts) / max(counts.sum(), 1))
