"""Figures of the representation while a run trains (`train.probe_every`), on few recordings, the same at every step.

    probe_rank_layer_N           effective rank of the frames of a layer (clusters.py)
    probe_usage_entropy          how evenly the head over the anchor's clusters uses them (clusters.py), and
    probe_target_usage_entropy   that of the stored labels of the same frames
    probe_phone_accuracy         frame accuracy on test of a linear phone classifier on layer probe_phone_layer, the one
                                 that is best on valid; probe_phone_error is 1 less the accuracy

Layers are the one in the middle, the one three quarters up, and the last; layer 0 is the input of the first block. The
state is only read and no random number of the run is used, so that its weights are the same with and without a probe.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.analysis.clusters import effective_rank, usage
from jepa_speech.analysis.recordings import Recording, from_manifest
from jepa_speech.anchors.frames import usage_entropy
from jepa_speech.errors import UserError
from jepa_speech.features.grid import FRAME_RATE, SAMPLE_RATE, frames, samples
from jepa_speech.nn.row_random import valid
from jepa_speech.objective_parts.contract import HasClusters, Objective, Tree
from jepa_speech.probing.extract import on_grid
from jepa_speech.probing.inputs import Rows, standardised
from jepa_speech.probing.linear import Recipe, fit, predict
from jepa_speech.probing.phones import frame_phones, spoken_frames
from jepa_speech.settings.training import MeshConfig
from jepa_speech.training.compiled import compiler_options
from jepa_speech.training.sharding import batch_sharding, make_mesh, replicated

SECONDS = 4.0  # of each recording, from its start
RECORDINGS = 16  # of a store
UTTERANCES = {"train": 32, "valid": 8, "test": 24}  # of a labelled folder
SEED = 0  # draws them: the same ones in runs of every seed
ROWS = 16  # in one call of the encoder
SIZE = samples(round(SECONDS * FRAME_RATE))  # of a row
RECIPE = Recipe(learning_rates=(1e-2,), decays=(1e-3,), steps=200, batch=256)

Labelled = dict[str, list[Recording]]  # by split, with their phones


class Stored(NamedTuple):
    """Recordings of a store: their waves (S,), and the usage entropy of their stored labels, if it has any."""

    waves: list[np.ndarray]
    target_usage_entropy: float | None


class Encoded(NamedTuple):
    """Of one recording: its layers (T, D) by number, and how many frames the cluster head gives to each of K clusters,
    (K,), (0,) if the objective has no such head.
    """

    layers: dict[int, np.ndarray]
    counts: np.ndarray


def from_store(store: Any, labels: Any, shortest: int) -> Stored:
    """At most RECORDINGS of a store, which have `shortest` samples or more.

    store: anything that a plan reads from; labels: what `stored_labels` opens, or None. Raises UserError if all
    recordings that were drawn are shorter.
    """
    drawn = np.random.default_rng(SEED).choice(len(store), min(len(store), 8 * RECORDINGS), replace=False)
    chosen = [int(i) for i in drawn if store.samples[i] >= shortest][:RECORDINGS]
    if not chosen:
        raise UserError(
            f"config key train.probe_every: the probe drew {len(drawn)} recordings, and all are shorter than "
            f"{shortest / SAMPLE_RATE:g} s, the encoder's shortest input; prepare longer ones, or set it to 0"
        )
    waves = [store.read(i, 0, SIZE) for i in chosen]
    if labels is None:
        return Stored(waves, None)
    ids = [labels.slice(i, 0, frames(len(wave)))[0][:, 0] for i, wave in zip(chosen, waves, strict=True)]
    return Stored(waves, usage_entropy(usage(ids, labels.components)))


def from_folder(folder: str, shortest: int) -> Labelled:
    """At most UTTERANCES of each split of a folder with phones.jsonl, laid out as for `jepa-speech probe --data`.

    Raises UserError for a folder that is laid out otherwise, an utterance of fewer than `shortest` samples, and a split
    without a phone.
    """
    found = {
        split: list(from_manifest(Path(folder), split, count, SEED, SIZE / SAMPLE_RATE))
        for split, count in UTTERANCES.items()
    }
    for split, recordings in found.items():
        for recording in recordings:
            if len(recording.wave) < shortest:
                seconds = len(recording.wave) / SAMPLE_RATE
                raise UserError(
                    f"{folder}: {split}: {recording.name} lasts {seconds:g} s, and the encoder needs "
                    f"{shortest / SAMPLE_RATE:g} s; leave it out of the manifest"
                )
        if not any((frame_phones(r.segments or [], frames(len(r.wave))) != "").any() for r in recordings):
            raise UserError(f"{folder}: {split}: no phone in the first {SECONDS:g} s of {len(recordings)} recordings")
    return found


def fingerprint(labelled: Labelled) -> str:
    """Returns a digest of the samples and phones, whatever the files are called."""
    digest = hashlib.sha256()
    for split, recordings in labelled.items():
        for recording in recordings:
            digest.update(repr((split, recording.segments)).encode("utf-8", "backslashreplace"))
            digest.update(recording.wave.tobytes())
    return digest.hexdigest()


class Probe:
    """(params, aux_state) -> the figures by their names in metrics.jsonl; all processes of a run call it together.

    labelled: {} if there is no labelled folder. A figure of features that are not finite is NaN.
    """

    def __init__(self, objective: Objective, mesh: MeshConfig, stored: Stored, labelled: Labelled) -> None:
        self._encoder = Encoder(objective, mesh)
        self._stored, self._labelled, self._frame_rate = stored, labelled, objective.frame_rate

    def __call__(self, params: Tree, aux_state: Tree) -> dict[str, float]:
        waves = [*self._stored.waves, *(one.wave for part in self._labelled.values() for one in part)]
        with jax.transfer_guard("allow"):
            encoded = iter(self._encoder(params, aux_state, waves))
            stored = [next(encoded) for _ in self._stored.waves]
            labelled = {split: [next(encoded) for _ in part] for split, part in self._labelled.items()}
            found = {f"rank_layer_{n}": rank([one.layers[n] for one in stored]) for n in stored[0].layers}
            if stored[0].counts.size:
                found["usage_entropy"] = usage_entropy(np.sum([one.counts for one in stored], 0))
                if self._stored.target_usage_entropy is not None:
                    found["target_usage_entropy"] = self._stored.target_usage_entropy
            if labelled:
                found |= self._phones(labelled)
        return {f"probe_{name}": round(float(figure), 6) for name, figure in found.items()}

    def _phones(self, encoded: dict[str, list[Encoded]]) -> dict[str, float]:
        best = (-1.0, 0, 0.0)  # accuracy on valid, layer, accuracy on test
        for number in encoded["test"][0].layers:
            rows = self._rows({split: [one.layers[number] for one in part] for split, part in encoded.items()})
            if not all(np.isfinite(part.x).all() for part in rows.values()):
                return dict.fromkeys(("phone_accuracy", "phone_error", "phone_layer"), np.nan)
            model = fit(rows["train"], rows["valid"], RECIPE)
            accuracy = float((predict(model, rows["test"].x) == rows["test"].y).mean())
            best = max(best, (model.valid_accuracy, -number, accuracy))
        return {"phone_accuracy": best[2], "phone_error": 1 - best[2], "phone_layer": -best[1]}

    def _rows(self, features: dict[str, list[np.ndarray]]) -> dict[str, Rows]:
        """The frames of one layer that hold a phone, of each split. A phone that train lacks is a class all the same,
        which is never predicted.
        """
        taken = {
            split: [
                spoken_frames(
                    recording.segments or [], np.stack(on_grid([layer], self._frame_rate, len(recording.wave)))
                )
                for recording, layer in zip(recordings, features[split], strict=True)
            ]
            for split, recordings in self._labelled.items()
        }
        labels = {split: np.concatenate([y for _, y in parts]) for split, parts in taken.items()}
        classes = np.unique(np.concatenate(list(labels.values())))
        return standardised(
            {
                split: Rows(
                    x=np.concatenate([x for x, _ in parts]),
                    y=np.searchsorted(classes, labels[split]),
                    owner=np.repeat(np.arange(len(parts)), [len(y) for _, y in parts]),
                    keys=tuple(recording.name for recording in self._labelled[split]),
                    classes=tuple(map(str, classes)),
                )
                for split, parts in taken.items()
            }
        )


def rank(layers: Sequence[np.ndarray]) -> float:
    """The effective rank of frames [(T, D)], less their mean; NaN if one is not finite."""
    x = np.concatenate(layers).astype(np.float64)
    if not np.isfinite(x).all():
        return np.nan
    centred = x - x.mean(0)
    return effective_rank(centred.T @ centred)


class Encoder:
    """(params, aux_state, waves [(S,)]) -> one `Encoded` for each, by one program on rows of SIZE samples.

    All devices share the rows, and every process gets all results.
    """

    def __init__(self, objective: Objective, mesh: MeshConfig) -> None:
        self._mesh, devices = make_mesh(mesh), jax.device_count()
        self._rows = -(-ROWS // devices) * devices

        def compute(params: Tree, aux_state: Tree, wave: jax.Array, lengths: jax.Array) -> Any:
            layers, frame_lengths = objective.represent(params, aux_state, wave, lengths)
            last, counts = len(layers) - 1, jnp.zeros((len(wave), 0), jnp.int32)
            if isinstance(objective, HasClusters) and "head" in params:
                p, _ = objective.clusters(params, aux_state, wave, lengths)
                ids = jax.nn.one_hot(p[0].argmax(-1), p[0].shape[-1], dtype=jnp.int32)  # (B, T, K)
                counts = (ids * valid(frame_lengths, ids.shape[1])[..., None]).sum(1)
            chosen = {n: layers[n].astype(jnp.float32) for n in sorted({last // 2, 3 * last // 4, last})}
            return chosen, frame_lengths, counts

        self._compute = jax.jit(compute, out_shardings=replicated(self._mesh), compiler_options=compiler_options())

    def __call__(self, params: Tree, aux_state: Tree, waves: Sequence[np.ndarray]) -> list[Encoded]:
        found: list[Encoded] = []
        while len(found) < len(waves):
            batch = waves[len(found) : len(found) + self._rows]
            padded, lengths = np.zeros((self._rows, SIZE), np.float32), np.full(self._rows, SIZE, np.int32)
            for row, wave in enumerate(batch):
                padded[row, : len(wave)], lengths[row] = wave, len(wave)
            layers, ends, counts = jax.device_get(
                self._compute(params, aux_state, self._placed(padded), self._placed(lengths))
            )
            found += [
                Encoded({n: x[row, : ends[row]] for n, x in layers.items()}, counts[row]) for row in range(len(batch))
            ]
        return found

    def _placed(self, rows: np.ndarray) -> jax.Array:
        """Rows, which every process has whole, split over all devices: row i of the result is row i."""
        return jax.make_array_from_callback(rows.shape, batch_sharding(self._mesh), lambda part: rows[part])
