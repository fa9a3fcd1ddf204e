"""Between store and anchor: the mean features of whole recordings, and the labels that an anchor gives them."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.anchors.anchor import Anchor, Arrays
from jepa_speech.anchors.gmm import posteriors
from jepa_speech.anchors.sparse import storage_loss, top_k
from jepa_speech.data.extractors import Extractor, Spectral
from jepa_speech.data.feature_means import load_means, means_path, save_means
from jepa_speech.data.labels import MAX_COMPONENTS, LabelWriter
from jepa_speech.data.store import Store
from jepa_speech.errors import UsageError
from jepa_speech.features import grid

Advance = Callable[[float], object]  # told how many seconds of audio were done since the last call

FIGURES = ("mean_kept_mass", "mean_kl_dense_to_stored", "posterior_entropy", "posterior_perplexity")


def silent(seconds: float) -> None: ...


def seconds_of(store: Store) -> float:
    """What `advance` is told of the whole store, all in all: hops of whole frames."""
    return float(grid.frames(np.asarray(store.samples, np.int64)).sum() / grid.FRAME_RATE)


def feature_means(store: Store, features: Extractor, advance: Advance = silent) -> np.ndarray:
    """(N, D) float32: those kept with the store, computed and kept there if there are none yet."""
    if not means_path(store, features.key).is_file():
        total = np.zeros((len(store), features.dim))
        for batch in features(store, range(len(store))):
            for piece, values in batch:
                total[piece.record] += values.sum(axis=0, dtype=np.float64)
            advance(batch.seconds)
        counts = grid.frames(np.asarray(store.samples, np.int64))
        save_means(store, features.key, total / np.maximum(counts, 1)[:, None])
    return load_means(store, features.key)


def check_top_k(anchor: Anchor, k: int) -> None:
    """Raises UsageError if labels of this anchor cannot be kept, or not k of each frame."""
    if not 1 <= k <= anchor.max_top_k:
        most = f"1 to {anchor.max_top_k}, the components of the anchor" if anchor.max_top_k > 1 else "1"
        hard = "" if anchor.max_top_k > 1 else ": k-means gives a frame one label"
        raise UsageError(f"--top-k {k}: choose {most}{hard}")
    if anchor.components > MAX_COMPONENTS:
        raise UsageError(f"{anchor.components} components: labels hold at most {MAX_COMPONENTS}")


def label(
    store: Store, anchor: Anchor, k: int, advance: Advance = silent, features: Extractor | None = None
) -> dict[str, float]:
    """Writes the anchor's labels of every frame into the store; returns what `meta.json` says of them.

    features: where the anchor's features come from; by default they are spectral
    mean_kept_mass: of the top k · mean_kl_dense_to_stored: nats lost by storing no more, float16 included, if
    the pool is spread evenly · posterior entropy: of the dense posteriors, in nats.
    Raises UsageError if k is larger than the components, OSError if the disk is full.
    """
    check_top_k(anchor, k)
    features = features or Spectral(anchor.features)
    means = feature_means(store, features) if anchor.normalize == "mean" else None
    arrays, sums = anchor.arrays(), np.zeros(4)
    with LabelWriter(store, anchor, anchor.components, k) as writer:
        for batch in features(store, range(len(store))):
            mean = None if means is None else means[batch.records]
            ids, probs, rest, measured = map(np.asarray, _sparse_labels(arrays, k, batch.values, mean, batch.valid))
            for row, piece in enumerate(batch.pieces):
                here = row, piece.here
                writer.put(piece.record, piece.first, ids[here], probs[here], rest[here])
            sums += measured
            advance(batch.seconds)
        frames, mass, loss, entropy = sums
        means_of = (mass / frames, loss / frames, entropy / frames, np.exp(entropy / frames))
        figures = dict(zip(FIGURES, map(float, means_of), strict=True))
        writer.finish(figures)
    return figures


@partial(jax.jit, static_argnums=1)
def _sparse_labels(
    arrays: Arrays, k: int, x: jax.Array, mean: jax.Array | None, valid: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Of features x (B, T, D), less the recordings' mean (B, D) where there is one:

    ids, probs (B, T, k), the rest's mass (B, T); sums over valid frames of 1, kept mass, KL to stored, entropy.
    """
    dense = posteriors(arrays, x if mean is None else x - mean[:, None])  # (B, T, K)
    ids, probs = top_k(dense, k)
    stored, rest = probs.astype(jnp.float16), jnp.maximum(1 - probs.sum(-1), 0).astype(jnp.float16)
    others = stored[..., 1:].astype(jnp.float32)
    first = 1 - rest.astype(jnp.float32) - others.sum(-1)
    read = jnp.concatenate([first[..., None], others], axis=-1)  # as `Labels.slice` has it
    entropy = -jax.scipy.special.xlogy(dense, dense).sum(-1)
    measured = jnp.stack([jnp.ones_like(valid), probs.sum(-1), storage_loss(dense, ids, read), entropy])
    return ids.astype(jnp.uint16), stored, rest, jnp.sum(measured * valid, axis=(1, 2))
