"""Between store and anchor: features of whole recordings, the frames a mixture is fitted to, the labels it gives."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.anchors.anchor import Arrays
from jepa_speech.anchors.gmm import DiagonalGMM, frame_posteriors
from jepa_speech.anchors.sparse import storage_loss, top_k
from jepa_speech.data.feature_means import load_means, means_path, save_means
from jepa_speech.data.labels import MAX_COMPONENTS, LabelWriter
from jepa_speech.data.store import Store
from jepa_speech.data.utterances import Piece, padded_batches
from jepa_speech.errors import UsageError
from jepa_speech.features import grid, spectral

Advance = Callable[[float], object]  # told how many seconds of audio were done since the last call

HELD_OUT = 20  # one recording in so many
FIGURES = ("mean_kept_mass", "mean_kl_dense_to_stored", "posterior_entropy", "posterior_perplexity")
_HELD_OUT_SALT = 1 << 32  # no seed of `--seed`


def _silent(seconds: float) -> None: ...


def seconds_of(store: Store) -> float:
    """What `advance` is told of the whole store, all in all: hops of whole frames."""
    return float(grid.frames(np.asarray(store.samples, np.int64)).sum() / grid.FRAME_RATE)


def features(
    store: Store, kind: str, records: Iterable[int], advance: Advance = _silent
) -> Iterator[tuple[Piece, np.ndarray]]:
    """Every frame of the recordings, each audio at level 1: pieces of them and their features (n, F)."""
    for batch in padded_batches(store, records):
        values = np.asarray(_features(kind, batch.audio, batch.lengths))  # (B, T, F)
        for row, piece in enumerate(batch.pieces):
            yield piece, values[row, piece.here]
        advance(batch.seconds)


def feature_means(store: Store, kind: str, advance: Advance = _silent) -> np.ndarray:
    """(N, F) float32: those kept with the store, computed and kept there if there are none yet."""
    if not means_path(store, kind).is_file():
        total = np.zeros((len(store), spectral.DIMS[kind]))
        for piece, values in features(store, kind, range(len(store)), advance):
            total[piece.record] += values.sum(axis=0, dtype=np.float64)
        counts = grid.frames(np.asarray(store.samples, np.int64))
        save_means(store, kind, total / np.maximum(counts, 1)[:, None])
    return load_means(store, kind)


@dataclass(frozen=True)
class Frames:
    """Unstandardised frames x (n, F) float32 of whole recordings: those to fit on, then those held out."""

    x: np.ndarray
    split: int
    recordings: int

    @property
    def train(self) -> np.ndarray:
        return self.x[: self.split] if self.split else self.x

    @property
    def heldout(self) -> np.ndarray:
        return self.x[self.split :]


def fitting_frames(
    store: Store, kind: str, normalize: str, hours: float, seed: int, advance: Advance = _silent
) -> Frames:
    """Frames of whole recordings, `hours` of them at most, in memory: hours x 180,000 x F x 4 bytes.

    Which recordings are held out depends on nothing but their ids. A store of one recording watches itself.
    """
    counts = grid.frames(np.asarray(store.samples, np.int64))
    order = np.argsort(_hash(np.arange(len(store)), seed), kind="stable")
    fits = np.cumsum(counts[order]) <= hours * 3600 * grid.FRAME_RATE
    fits[0] = True
    chosen = np.sort(order[fits])
    held = _hash(chosen, _HELD_OUT_SALT) % HELD_OUT == 0
    if held.all() or not held.any():
        held = np.arange(len(chosen)) == len(chosen) - 1
    records = np.concatenate([chosen[~held], chosen[held]])
    means = feature_means(store, kind) if normalize == "mean" else None

    rows = np.concatenate([[0], np.cumsum(counts[records])])
    first_row = dict(zip(records.tolist(), rows.tolist(), strict=False))
    x = np.empty((rows[-1], spectral.DIMS[kind]), np.float32)
    for piece, values in features(store, kind, records, advance):
        row = first_row[piece.record] + piece.first
        x[row : row + piece.frames] = values if means is None else values - means[piece.record]
    return Frames(x, int(rows[np.sum(~held)]), len(records))


def label(store: Store, anchor: DiagonalGMM, k: int, advance: Advance = _silent) -> dict[str, float]:
    """Writes the anchor's labels of every frame into the store; returns what `meta.json` says of them.

    mean_kept_mass: of the top k · mean_kl_dense_to_stored: nats lost by storing no more, float16 included, if
    the pool is spread evenly · posterior entropy: of the dense posteriors, in nats.
    Raises UsageError if k is larger than the components, OSError if the disk is full.
    """
    if not 1 <= k <= anchor.components:
        raise UsageError(f"--top-k {k}: choose 1 to {anchor.components}, the components of the anchor")
    if anchor.components > MAX_COMPONENTS:
        raise UsageError(f"{anchor.components} components: labels hold at most {MAX_COMPONENTS}")
    means = feature_means(store, anchor.features) if anchor.normalize == "mean" else None
    arrays, sums = anchor.arrays(), np.zeros(4)
    with LabelWriter(store, anchor, anchor.components, k) as writer:
        for batch in padded_batches(store, range(len(store))):
            mean = None if means is None else means[batch.records]
            ids, probs, rest, measured = map(
                np.asarray,
                _sparse_labels(arrays, anchor.features, k, batch.audio, batch.lengths, mean, batch.valid),
            )
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


@partial(jax.jit, static_argnums=0)
def _features(kind: str, audio: jax.Array, lengths: jax.Array) -> jax.Array:
    return spectral.extract(kind, audio, lengths)


@partial(jax.jit, static_argnums=(1, 2))
def _sparse_labels(
    arrays: Arrays,
    kind: str,
    k: int,
    audio: jax.Array,
    lengths: jax.Array,
    mean: jax.Array | None,
    valid: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """ids, probs (B, T, k), the rest's mass (B, T); sums over valid frames of 1, kept mass, KL to stored, entropy."""
    dense = frame_posteriors(arrays, kind, audio, mean, lengths)  # (B, T, K)
    ids, probs = top_k(dense, k)
    stored, rest = probs.astype(jnp.float16), jnp.maximum(1 - probs.sum(-1), 0).astype(jnp.float16)
    others = stored[..., 1:].astype(jnp.float32)
    first = 1 - rest.astype(jnp.float32) - others.sum(-1)
    read = jnp.concatenate([first[..., None], others], axis=-1)  # as `Labels.slice` has it
    entropy = -jax.scipy.special.xlogy(dense, dense).sum(-1)
    measured = jnp.stack([jnp.ones_like(valid), probs.sum(-1), storage_loss(dense, ids, read), entropy])
    return ids.astype(jnp.uint16), stored, rest, jnp.sum(measured * valid, axis=(1, 2))


def _hash(ids: np.ndarray, salt: int) -> np.ndarray:
    """A well-mixed uint64 per record id (splitmix64)."""
    x = ids.astype(np.uint64) + np.uint64((salt + 1) * 0x9E3779B97F4A7C15 % (1 << 64))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))
