"""Mean feature vectors of recordings, and an anchor's labels of every frame."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.anchors.anchor import Anchor, Arrays
from jepa_speech.anchors.gmm import posteriors
from jepa_speech.anchors.sparse import storage_loss, top_k
from jepa_speech.arguments import Part
from jepa_speech.errors import UsageError, UserError
from jepa_speech.features import grid
from jepa_speech.files import read_json
from jepa_speech.labelling.extractors import Extractor, Spectral
from jepa_speech.labelling.parts import LabelParts, chunks, join, labelling
from jepa_speech.store.feature_means import load_means, means_path, save_means
from jepa_speech.store.label_codec import LEAST, LEVELS, MOST, expand
from jepa_speech.store.labels import FIGURES, MAX_COMPONENTS
from jepa_speech.store.store import Store

Advance = Callable[[float], object]  # progress callback: called with the seconds of audio done since the last call


def silent(seconds: float) -> None: ...


def seconds_of(store: Store, part: Part = (0, 1)) -> float:
    """Returns the sum of all calls of `advance` for a store, or for a part of its labels: seconds of whole frames."""
    counts = grid.frames(np.asarray(store.samples, np.int64))
    return float(sum(counts[own.start : own.stop].sum() for own in chunks(store)[part[0] :: part[1]]) / grid.FRAME_RATE)


def feature_means(store: Store, features: Extractor, advance: Advance = silent) -> np.ndarray:
    """Returns the mean feature vector of each recording, (N, D) float32. Computed once and saved in the store."""
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
    """Raises UsageError if labels cannot hold k components per frame of this anchor, or the anchor at all."""
    most = min(anchor.max_top_k, MOST)
    if not 1 <= k <= most:
        what = "the components of the anchor" if most == anchor.max_top_k else "more are never stored"
        hard = "" if most > 1 else ": k-means gives a frame one label"
        raise UsageError(f"top_k = {k}: choose {f'1 to {most}, {what}' if most > 1 else '1'}{hard}")
    if anchor.components > MAX_COMPONENTS:
        raise UsageError(f"{anchor.components} components: labels hold at most {MAX_COMPONENTS}")


def label(
    store: Store,
    anchor: Anchor,
    k: int,
    advance: Advance = silent,
    features: Extractor | None = None,
    part: Part | None = None,
) -> dict[str, float] | None:
    """Writes the anchor's labels of every frame into the store; returns the figures that `meta.json` holds.

    After a kill, the same call resumes at the first missing chunk. features: the anchor's; spectral by default.
    With `part` (i, n), writes only the i-th of n parts, for `merge_label_parts`, and returns None.

    mean_kept_mass: mean probability of the stored components · mean_kl_dense_to_stored: KL divergence in nats of the
    dense from the stored posteriors, their pool spread evenly · posterior entropy: of the dense posteriors, in nats.

    Raises UsageError if k is larger than the components, UserError if another process labels with this anchor, OSError
    if the disk is full.
    """
    check_top_k(anchor, k)
    features = features or Spectral(anchor.features)
    means = feature_means(store, features) if anchor.normalize == "mean" else None
    with labelling(store, anchor, shared=bool(part and part[1] > 1)):
        parts = LabelParts(store, anchor, anchor.components, k, part[1] if part else 1)
        arrays = anchor.arrays()
        for number in parts.unfinished(part or (0, 1)):
            parts.write(number, *_label_chunk(store, features, means, arrays, k, parts.chunks[number], advance))
        if part:
            return None
        meta = read_json(join(store, parts.path) / "meta.json")
    return {name: meta[name] for name in FIGURES}


def _label_chunk(
    store: Store,
    features: Extractor,
    means: np.ndarray | None,
    arrays: Arrays,
    k: int,
    records: range,
    advance: Advance,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns ids, levels (n, k) and the pool's level (n,) of these recordings' frames; sums (4,) as in `_levels`."""
    rows = np.concatenate([[0], np.cumsum(grid.frames(np.asarray(store.samples[records.start : records.stop])))])
    ids, levels = np.zeros((rows[-1], k), np.uint16), np.zeros((rows[-1], k), np.uint8)
    pool, sums = np.zeros(rows[-1], np.uint8), np.zeros(4)
    for batch in features(store, records):
        mean = None if means is None else means[batch.records]
        *found, measured = map(np.asarray, _levels(arrays, k, batch.values, mean, batch.valid))
        for row, piece in enumerate(batch.pieces):
            first = rows[piece.record - records.start] + piece.first
            for all_of_them, values in zip((ids, levels, pool), found, strict=True):
                all_of_them[first : first + piece.frames] = values[row, piece.here]
        sums += measured
        advance(batch.seconds)
    if not np.isfinite(sums).all():
        raise UserError(
            f"{store.name}: the anchor's posteriors are NaN in recordings {records.start} to {records.stop - 1}; fit "
            "the anchor again; if its features are a checkpoint's layer, check that checkpoint, too"
        )
    return ids, levels, pool, sums


@partial(jax.jit, static_argnums=1)
def _levels(
    arrays: Arrays, k: int, x: jax.Array, mean: jax.Array | None, valid: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Returns ids, levels (B, T, k), the pool's level (B, T), and sums over valid frames (4,).

    x (B, T, D), from which `mean` (B, D) is subtracted if given. The sums: 1, kept mass, KL to stored, entropy.
    """
    dense = posteriors(arrays, x if mean is None else x - mean[:, None])  # (B, T, K)
    ids, probs = top_k(dense, k)
    probs = probs.at[..., 1:].set(jnp.where(probs[..., 1:] >= LEAST, probs[..., 1:], 0))  # the first is always kept
    mass = probs.sum(-1)
    levels, pool = (jnp.round(LEVELS * jnp.cbrt(p)).astype(jnp.uint8) for p in (probs, jnp.maximum(1 - mass, 0)))
    entropy = -jax.scipy.special.xlogy(dense, dense).sum(-1)
    measured = jnp.stack([jnp.ones_like(valid), mass, storage_loss(dense, ids, expand(levels, pool)), entropy])
    return ids.astype(jnp.uint16), levels, pool, jnp.sum(measured * valid, axis=(1, 2))
