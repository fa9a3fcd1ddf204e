"""PASE (arXiv 1904.03416) and PASE+ (arXiv 2001.09239): one encoder, many workers, each with its own task and loss.

    L = Σ over workers of  L1 (waveform),  mean squared error (spectra, cepstra, prosody),  binary cross-entropy
        (lim: same utterance or not, frame by frame; gim: the same of means over time; spc: later frames or earlier)

Nothing is masked. PASE+ distorts the input of the encoder; all targets come from the clean chunk. Targets are divided
by the mean and deviation of all training frames so far, this batch included. These are in `aux_state`, so that no pass
over the data is needed before training. So a regression worker below 1 does better than the mean. lim and gim take as
positive the batch's `context`, another crop of the recording, and as negative its `mix`, a crop of another recording.

Batch normalisation makes rows depend on each other in training: `batch_statistics` says so. Its statistics are those
of all views of the whole batch, on however many devices, without padding and filler rows; each micro-batch is
normalised by itself. `represent` uses running statistics, which are in `aux_state`, and depends on the row alone.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from jepa_speech.augment.distortions import DistortionConfig, distort
from jepa_speech.config import of_kind
from jepa_speech.errors import UsageError
from jepa_speech.features.centred import HOP
from jepa_speech.features.targets import TARGETS, target, width
from jepa_speech.nn.batch_norm import Sums, frame_statistics, fresh_pool, fresh_running, pool, update_running
from jepa_speech.nn.build_encoder import standardise
from jepa_speech.nn.module import Pure
from jepa_speech.nn.pase import PaseEncoder, PaseEncoderConfig
from jepa_speech.nn.pase_heads import NEARBY, SPC_FRAMES, STRIDES, Mlp, WaveDecoder, neighbours, spc_pairs
from jepa_speech.nn.row_random import fold, row_keys, valid
from jepa_speech.objective_parts.collapse import effective_rank, masked_moments
from jepa_speech.objective_parts.contract import Batch, Term, Tree
from jepa_speech.objective_parts.terms import mean_term
from jepa_speech.settings.run_config import RunConfig

DISTORT, SPC = range(2)  # one use of a row's key each
DISCRIMINATORS = {"lim": 2, "gim": 2, "spc": 1 + NEARBY}  # name -> number of embeddings in its input
WORKERS = ("waveform", *TARGETS, *DISCRIMINATORS)


@dataclass(frozen=True)
class PaseConfig:
    """Config section `objective`, name `pase`."""

    name: str = "pase"  # chooses this objective
    # names of WORKERS in objectives/pase.py; each weighs 1
    workers: tuple[str, ...] = ("waveform", "lps", "mfcc", "prosody", "lim", "gim", "spc")
    deltas: bool = False  # whether regression targets come with Δ and ΔΔ (PASE+)
    frames: int = 1  # consecutive target frames that are regressed from one frame, an odd number
    swapped: bool = False  # whether `gim` also takes the context for the chunk (PASE+)
    hidden: int = 256  # units of a worker
    decoder: tuple[int, ...] = (512, 256, 128)  # maps of the waveform's decoder
    worker_rate: float = 1.0  # learning rate of the workers, relative to that of the encoder

    def __post_init__(self) -> None:
        unknown = [name for name in self.workers if name not in WORKERS]
        if unknown or not self.workers:
            raise UsageError(f"config key objective.workers = {self.workers}: some of {', '.join(WORKERS)} needed")
        if self.frames < 1 or self.frames % 2 == 0:
            raise UsageError(f"config key objective.frames = {self.frames}: an odd number needed")
        if len(self.decoder) != len(STRIDES):
            raise UsageError(f"config key objective.decoder = {self.decoder}: {len(STRIDES)} numbers needed")


@dataclass(frozen=True)
class Pase:
    config: PaseConfig
    encoder_config: PaseEncoderConfig
    distortions: DistortionConfig

    batch_statistics = True

    @property
    def frame_rate(self) -> float:
        return self.encoder_config.frame_rate

    @property
    def min_samples(self) -> int:
        return self.encoder_config.min_samples

    @cached_property
    def compares(self) -> bool:
        """Whether some worker compares utterances."""
        return bool({"lim", "gim"} & set(self.config.workers))

    @cached_property
    def regressed(self) -> list[str]:
        return [name for name in self.config.workers if name in TARGETS]

    @cached_property
    def batch_fields(self) -> frozenset[str]:
        wanted = {"context": self.compares, "mix": self.compares or self.distortions.voice > 0}
        return frozenset(name for name, needed in wanted.items() if needed)

    @cached_property
    def encoder(self) -> Pure:
        return Pure(lambda rngs: PaseEncoder(self.encoder_config, rngs))

    @cached_property
    def workers(self) -> dict[str, Pure]:
        return {name: self.worker(name) for name in self.config.workers}

    def worker(self, name: str) -> Pure:
        config, embedding = self.config, self.encoder_config.embedding
        dtype = jnp.dtype(self.encoder_config.dtype)
        if name == "waveform":
            return Pure(lambda rngs: WaveDecoder(embedding, config.decoder, dtype, rngs))
        if name in TARGETS:
            outputs = width(name, config.deltas) * config.frames
            return Pure(lambda rngs: Mlp(embedding, config.hidden, outputs, dtype, rngs))
        return Pure(lambda rngs: Mlp(DISCRIMINATORS[name] * embedding, config.hidden, 1, dtype, rngs))

    def check(self, shortest: int, longest: int) -> None:
        """Raises UsageError where clips of that many samples are too short."""
        if shortest < self.min_samples:
            raise UsageError(
                f"a clip of {shortest} samples is too short, because PASE's convolutions need {self.min_samples}; "
                "raise data.buckets"
            )
        if "spc" in self.config.workers and longest // HOP < SPC_FRAMES:
            raise UsageError(
                f"the worker spc needs crops of at least {SPC_FRAMES / self.frame_rate} s: raise data.buckets, or take "
                "it out of objective.workers"
            )

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        keys = jax.random.split(key, 1 + len(self.workers))
        workers = {name: worker.init(k) for (name, worker), k in zip(self.workers.items(), keys[1:], strict=True)}
        aux_state = {
            "norms": [fresh_running(maps) for maps in self.encoder_config.norm_widths],
            "targets": {name: fresh_pool(width(name, self.config.deltas)) for name in self.regressed},
        }
        return {"encoder": self.encoder.init(keys[0]), "workers": workers}, aux_state

    def loss(
        self, params: Tree, aux_state: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        keys = row_keys(key, batch["record_id"], batch["epoch"])
        clean = batch["audio"] / batch["level"][:, None]  # (B, S)
        views, lengths = self.views(batch, clean, fold(keys, DISTORT))  # (B, V, S), (B, V)
        embedded = self.encoder.apply(
            params["encoder"],
            views.reshape(-1, views.shape[-1]),
            lengths.reshape(-1),
            jnp.repeat(batch["weight"], views.shape[1]),
        )
        z = embedded.z.reshape(*views.shape[:2], -1, self.encoder_config.embedding)  # (B, V, T, D)
        frame_lengths = embedded.frame_lengths.reshape(lengths.shape)  # (B, V)
        inside = valid(frame_lengths[:, 0], z.shape[2]) * batch["weight"][:, None]  # (B, T)
        chunk = jnp.where(inside[..., None] > 0, z[:, 0], 0)

        terms: dict[str, Term] = {}
        seen: dict[str, Sums] = {}
        for name in self.workers:
            if name in DISCRIMINATORS:
                *pairs, weight = self.pairs(name, z, frame_lengths, batch, fold(keys, SPC))
                positive, negative = (self.work(params, name, pair)[..., 0] for pair in pairs)
                terms |= binary(name, positive, negative, weight)
                continue
            output = self.work(params, name, chunk)
            if name == "waveform":
                wave = clean[:, : output.shape[1]]
                error = jnp.abs(output - wave).reshape(*inside.shape, HOP).mean(-1)  # (B, T)
            else:
                wanted, seen[name] = self.target(aux_state, name, clean, batch["lengths"], inside)
                error = jnp.square(output - wanted).mean(-1)  # (B, T)
            terms[name] = mean_term(error, inside, 1.0)
        return terms, {"norms": embedded.sums, "targets": seen, "embedding": masked_moments(chunk, inside)}

    def work(self, params: Tree, name: str, x: jax.Array) -> jax.Array:
        """A worker's output, in float32."""
        return self.workers[name].apply(params["workers"][name], x).astype(jnp.float32)

    def views(self, batch: Batch, clean: jax.Array, keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The encoder's inputs (B, V, S), and lengths (B, V): the distorted chunk, its context, another recording."""
        lengths, silence = batch["lengths"], jnp.zeros_like(clean)
        other, other_lengths = silence, jnp.zeros_like(lengths)
        if "mix" in self.batch_fields:
            other, other_lengths = batch["mix"] / batch["mix_level"][:, None], batch["mix_lengths"]
        distorted = distort(keys, clean, lengths, other, other_lengths, self.distortions)
        if not self.compares:
            return distorted[:, None], lengths[:, None]
        context = batch["context"] / batch["level"][:, None]
        waves, counts = (distorted, context, other), (lengths, batch["context_lengths"], other_lengths)
        return jnp.stack(waves, 1), jnp.stack(counts, 1)

    def target(
        self, aux_state: Tree, name: str, clean: jax.Array, lengths: jax.Array, inside: jax.Array
    ) -> tuple[jax.Array, Sums]:
        """A worker's targets (B, T, frames * F), with mean 0 and deviation 1 over training, and the batch's sums."""
        features = target(name, clean, lengths, self.config.deltas)  # (B, T, F)
        sums = frame_statistics(features, inside)[2]
        known = jax.lax.stop_gradient(pool(aux_state["targets"][name], sums))
        normal = (features - known["mean"]) * jax.lax.rsqrt(known["variance"] + 1e-8)
        return neighbours(jnp.where(inside[..., None] > 0, normal, 0), self.config.frames), sums

    def pairs(
        self, name: str, z: jax.Array, frame_lengths: jax.Array, batch: Batch, keys: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns a discriminator's positive and negative inputs, (B, ..., N D) each, and their weights (B, ...)."""
        if name == "spc":
            long_enough = frame_lengths[:, 0] >= SPC_FRAMES
            return *spc_pairs(keys, z[:, 0], frame_lengths[:, 0]), batch["weight"] * long_enough
        shared = valid(frame_lengths.min(1), z.shape[2]) * batch["weight"][:, None]  # frames that all views have
        if name == "lim":
            chunk, context, other = z[:, 0], z[:, 1], z[:, 2]  # (B, T, D)
            return side_by_side(chunk, context), side_by_side(chunk, other), shared
        inside = valid(frame_lengths.reshape(-1), z.shape[2]).reshape(*z.shape[:3], 1)
        means = jnp.where(inside, z, 0).sum(2) / jnp.maximum(frame_lengths, 1)[..., None]  # (B, 3, D)
        first, second = means[:, :2], means[:, 1::-1]  # chunk and context, and the other way round
        if not self.config.swapped:
            first, second = first[:, :1], second[:, :1]
        other = jnp.broadcast_to(means[:, 2:], first.shape)
        weight = jnp.broadcast_to(shared[:, :1], first.shape[:2])
        return side_by_side(first, second), side_by_side(first, other), weight

    def eval_loss(
        self, params: Tree, aux_state: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        return self.loss(params, aux_state, batch, key, step)

    def update_aux_state(self, aux_state: Tree, params: Tree, stats: Tree, step: jax.Array) -> Tree:
        norms = [
            update_running(running, sums) for running, sums in zip(aux_state["norms"], stats["norms"], strict=True)
        ]
        return {
            "norms": norms,
            "targets": {name: pool(aux_state["targets"][name], stats["targets"][name]) for name in self.regressed},
        }

    def rates(self, step: jax.Array) -> dict[str, Any]:
        return {} if self.config.worker_rate == 1 else {"workers": self.config.worker_rate}

    def report(self, stats: Tree) -> dict[str, jax.Array]:
        return {"effective_rank": effective_rank(stats["embedding"])}

    def represent(
        self, params: Tree, aux_state: Tree, wave: jax.Array, lengths: jax.Array
    ) -> tuple[list[jax.Array], jax.Array]:
        """The embedding alone: the blocks before it have other widths and rates."""
        encoded = self.encoder.apply(params["encoder"], standardise(wave, lengths), lengths, None, aux_state["norms"])
        return [encoded.z], encoded.frame_lengths


def side_by_side(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.concatenate([a, b], -1)


def binary(name: str, positive: jax.Array, negative: jax.Array, weight: jax.Array) -> dict[str, Term]:
    """Cross-entropy (ln 2 at chance) and accuracy of as many positive as negative logits."""
    entropy = (jax.nn.softplus(-positive) + jax.nn.softplus(negative)) / 2
    right = ((positive > 0).astype(jnp.float32) + (negative < 0)) / 2
    return {
        name: mean_term(entropy, weight, 1.0),
        f"{name}_accuracy": mean_term(right, weight),
    }


SECTIONS = {"objective": PaseConfig, "encoder": PaseEncoderConfig, "mixing": DistortionConfig}


def build(config: RunConfig, anchor: None = None) -> Pase:
    """From the whole config; section `mixing` holds the distortions."""
    return Pase(
        config=of_kind(config.objective, PaseConfig),
        encoder_config=of_kind(config.encoder, PaseEncoderConfig),
        distortions=of_kind(config.mixing, DistortionConfig),
    )
