"""GMM-anchored JEPA (arXiv 2602.09040).

    L = L_JEPA + λ(t) · L_GMM,  λ from 1 to 0.01, linear in the step
    L_JEPA = mean over hidden frames of ‖ẑ_t − LN(z^teacher_t)‖² / D
    L_GMM  = mean over hidden frames of KL(q_t ‖ p_t)

q_t: posterior of a Gaussian mixture fitted once; p_t: the cluster head's prediction from the masked view;
ẑ_t: the predictor's; z^teacher: the EMA encoder's output on the clean, whole view.

λ ≡ 0 is pure JEPA (`configs/pure_jepa.py`); jepa_weight = 0 with λ ≡ 1 is the anchor alone.

The paper's released code masks after its encoder: `mask.site = "pre_predictor"` wires that (for the released encoder,
`configs/gmm_jepa_released.py`). What else it does is not copied: a teacher with dropout and in half precision,
targets without normalisation, labels beside the frames.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.anchors.gmm import DiagonalGMM, frame_posteriors
from jepa_speech.anchors.sparse import kl_to_sparse, top_k
from jepa_speech.config import from_section
from jepa_speech.data.mixing import MixingConfig, student_view
from jepa_speech.errors import UsageError
from jepa_speech.features.spectral import DELTA_EDGE, DIMS
from jepa_speech.nn.masks import MaskConfig, span_masks
from jepa_speech.nn.module import System
from jepa_speech.nn.rows import fold, row_keys, valid
from jepa_speech.nn.system import standardise, system
from jepa_speech.objectives.collapse import effective_rank, moments, usage_entropy, variance
from jepa_speech.objectives.contract import Batch, Term, Tree

VIEW, MASK, STUDENT, PREDICTOR, HEAD = range(5)  # one use of a row's key each


@dataclass(frozen=True)
class GmmJepaConfig:
    """Config section `objective`. visible_weight: of the cluster loss on frames that were not hidden."""

    name: str = "gmm_jepa"
    jepa_weight: float = 1.0
    lambda_start: float = 1.0
    lambda_end: float = 0.01
    visible_weight: float = 0.0
    predictor_blocks: int = 1
    ema_start: float = 0.996
    ema_end: float = 0.9999


@dataclass(frozen=True)
class AnchorConfig:
    """Config section `anchor`. source: `stored` reads labels of the store, `online` computes them in the step.

    components, features, normalize: filled in from the file at `path`; set, they must agree with it.
    top_k: what `online` keeps of each posterior, the rest being one pooled class, as `label` does.
    """

    path: str = ""
    source: Literal["stored", "online"] = "stored"
    components: int = 0
    features: str = ""
    normalize: str = ""
    top_k: int = 16


@dataclass(frozen=True)
class GmmJepa:
    config: GmmJepaConfig
    mask: MaskConfig
    mixing: MixingConfig
    anchor_config: AnchorConfig
    steps: int
    system: System
    anchor: DiagonalGMM | None = None

    @cached_property
    def anchored(self) -> bool:
        return self.config.lambda_start > 0 or self.config.lambda_end > 0

    @cached_property
    def latent(self) -> bool:
        return self.config.jepa_weight > 0

    @cached_property
    def online(self) -> bool:
        return self.anchored and self.anchor_config.source == "online"

    @cached_property
    def spec(self) -> frozenset[str]:
        wanted = {
            "mix": self.mixing.active,
            "anchor": self.anchored and not self.online,
            "anchor_mean": self.online and self.anchor_config.normalize == "mean",
        }
        return frozenset(name for name, needed in wanted.items() if needed)

    @property
    def frame_rate(self) -> float:
        return self.system.frame_rate

    @property
    def min_samples(self) -> int:
        return self.system.min_samples

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        keys = jax.random.split(key, 3)
        params, slow = {"encoder": self.system.encoder.init(keys[0])}, {}
        if self.latent:
            params["predictor"] = self.system.predictor.init(keys[1])
            slow["teacher"] = jax.tree.map(jnp.copy, params["encoder"])  # its own buffers
        if self.anchored:
            params["head"] = self.system.head.init(keys[2])
        if self.online:
            slow["anchor"] = self.anchor_arrays()
        return params, slow

    def anchor_arrays(self) -> Tree:
        """The frozen mixture; a checkpoint, which brings its own, only needs the shapes."""
        if self.anchor is not None:
            return self.anchor.arrays()
        blank = np.ones((self.anchor_config.components, DIMS[self.anchor_config.features]), np.float32)
        parts = {"means": blank, "variances": blank, "weights": blank[:, 0], "shift": blank[0], "scale": blank[0]}
        return DiagonalGMM(**parts, features=self.anchor_config.features).arrays()

    def loss(
        self, params: Tree, slow: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        keys = row_keys(key, batch["record_id"], batch["epoch"])
        lengths, clean = batch["lengths"], batch["audio"] / batch["level"][:, None]  # (B, S)
        heard = self.student_view(batch, clean, fold(keys, VIEW))
        frame_lengths = self.system.frames(lengths)
        size = self.system.frames(clean.shape[1])
        mask = self.hide(fold(keys, MASK), frame_lengths, size)  # (B, T)
        hidden = mask * batch["weight"][:, None]
        visible = (valid(frame_lengths, size) & ~mask) * batch["weight"][:, None]

        z = self.context(params, heard, lengths, mask, fold(keys, STUDENT))
        stats = {"context": moments(z, hidden)}
        terms = {}
        if self.latent:
            prediction = self.system.predictor.apply(
                params["predictor"], z, mask, frame_lengths, fold(keys, PREDICTOR)
            ).astype(jnp.float32)
            target = self.target(slow, clean, lengths)
            error = jnp.square(prediction - target).mean(-1)  # (B, T)
            terms["jepa"] = Term((error * hidden).sum(), hidden.sum(), self.config.jepa_weight)
            stats |= {"prediction": moments(prediction, hidden), "target": moments(target, hidden)}
        if self.anchored:
            logits = self.system.head.apply(params["head"], z, fold(keys, HEAD))
            log_p = jax.nn.log_softmax(logits)  # (B, T, K)
            ids, q, labelled = self.posteriors(slow, batch, clean, frame_lengths, size)
            divergence = kl_to_sparse(ids, q, log_p)  # (B, T)
            lam = self.lam(step)
            for name, chosen, scale in (
                ("cluster", hidden * labelled, lam),
                ("cluster_visible", visible * labelled, lam * self.config.visible_weight),
            ):
                terms[name] = Term((divergence * chosen).sum(), chosen.sum(), scale)
            chosen = hidden * labelled
            hit = (log_p.argmax(-1) == ids[..., 0]) * chosen
            terms["cluster_accuracy"] = Term(hit.sum(), chosen.sum(), 0.0)
            terms["posterior_entropy"] = Term((sparse_entropy(q) * chosen).sum(), chosen.sum(), 0.0)
            terms["lambda"] = Term(lam, jnp.ones(()), 0.0)
            usage = jax.lax.stop_gradient(jnp.exp(log_p))
            stats["usage"] = jnp.einsum("btk,bt->k", usage, hidden)
        return terms, stats

    def student_view(self, batch: Batch, clean: jax.Array, keys: jax.Array) -> jax.Array:
        """What the student hears: the clean wave with another voice or noise over it, where so configured."""
        if not self.mixing.active:
            return clean
        other = batch["mix"] / batch["mix_level"][:, None]
        return student_view(keys, clean, batch["lengths"], other, batch["mix_lengths"], self.mixing)

    def hide(self, keys: jax.Array, frame_lengths: jax.Array, size: int) -> jax.Array:
        """The frames to predict, (B, T) True where hidden."""
        return span_masks(keys, frame_lengths, size, self.mask)

    def context(
        self, params: Tree, wave: jax.Array, lengths: jax.Array, mask: jax.Array, keys: jax.Array | None
    ) -> jax.Array:
        """z (B, T, D): the encoder's output; with `pre_context` it never saw the hidden frames."""
        before = mask if self.mask.site == "pre_context" else None
        return self.system.encoder.apply(params["encoder"], wave, lengths, before, keys)[0]

    def target(self, slow: Tree, clean: jax.Array, lengths: jax.Array) -> jax.Array:
        """The teacher's latents of the clean, whole view, without dropout, layer-normalised: (B, T, D) float32."""
        z = self.system.encoder.apply(slow["teacher"], clean, lengths)[0]
        return jax.nn.standardize(jax.lax.stop_gradient(z).astype(jnp.float32), epsilon=1e-5)

    def posteriors(
        self, slow: Tree, batch: Batch, clean: jax.Array, frame_lengths: jax.Array, size: int
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """ids and probabilities (B, T, k) of the posteriors' top k, and the frames (B, T) that have one."""
        if not self.online:
            ids, q = batch["anchor_ids"], batch["anchor_probs"]
            return ids, q, valid(frame_lengths, size)
        kind = self.anchor_config.features
        dense = frame_posteriors(slow["anchor"], kind, clean, mean=batch.get("anchor_mean"), lengths=batch["lengths"])
        ids, q = top_k(dense, self.anchor_config.top_k)
        edge = DELTA_EDGE if kind == "mfcc" else 0  # deltas there would see what lies beyond the crop
        labelled = valid(frame_lengths - edge, size) & (jnp.arange(size) >= edge)
        return jax.lax.stop_gradient(ids), jax.lax.stop_gradient(q), labelled

    def lam(self, step: jax.Array) -> jax.Array:
        """λ(t), linear from lambda_start to lambda_end over the run."""
        start, end = self.config.lambda_start, self.config.lambda_end
        return start + (end - start) * jnp.clip(step / self.steps, 0, 1)

    def decay(self, step: jax.Array) -> jax.Array:
        """The teacher's EMA decay, linear from ema_start to ema_end over the run."""
        start, end = self.config.ema_start, self.config.ema_end
        return start + (end - start) * jnp.clip(step / self.steps, 0, 1)

    def update_slow(self, slow: Tree, params: Tree, stats: Tree, step: jax.Array) -> Tree:
        """θ_teacher ← d · θ_teacher + (1 − d) · θ_student, in float32."""
        if not self.latent:
            return slow
        d = self.decay(step)
        teacher = jax.tree.map(lambda t, s: d * t + (1 - d) * s, slow["teacher"], params["encoder"])
        return slow | {"teacher": teacher}

    def report(self, stats: Tree) -> dict[str, jax.Array]:
        """Effective rank and variances over hidden frames, entropy of cluster usage."""
        figures = {"effective_rank": effective_rank(stats["context"])}
        for name in ("prediction", "target"):
            if name in stats:
                figures[f"{name}_variance"] = variance(stats[name])
        if "usage" in stats:
            figures["cluster_usage"] = usage_entropy(stats["usage"])
        return figures

    def represent(
        self, params: Tree, slow: Tree, wave: jax.Array, lengths: jax.Array
    ) -> tuple[list[jax.Array], jax.Array]:
        _, layers, frame_lengths = self.system.encoder.apply(params["encoder"], standardise(wave, lengths), lengths)
        return layers, frame_lengths

    def clusters(
        self, params: Tree, slow: Tree, wave: jax.Array, lengths: jax.Array
    ) -> tuple[list[jax.Array], jax.Array]:
        """The head's cluster probabilities for every frame, nothing hidden: [(B, T, K)] and frame lengths (B,)."""
        if not self.anchored:
            raise UsageError("this checkpoint was trained without an anchor (λ ≡ 0): it has no cluster head")
        z, _, frame_lengths = self.system.encoder.apply(params["encoder"], standardise(wave, lengths), lengths)
        return [jax.nn.softmax(self.system.head.apply(params["head"], z))], frame_lengths


def sparse_entropy(q: jax.Array) -> jax.Array:
    """Entropy in nats of stored posteriors, the pooled rest as one class: (B, T, k) -> (B, T)."""
    rest = jnp.maximum(1 - q.sum(-1, keepdims=True), 0)
    p = jnp.concatenate([q, rest], -1)
    return -jnp.sum(p * jnp.log(jnp.maximum(p, 1e-12)), -1)


def build(config: Mapping[str, Any], anchor: DiagonalGMM | None = None) -> GmmJepa:
    """From the whole config; raises UsageError where its sections contradict each other."""
    objective = from_section(GmmJepaConfig, config["objective"], "objective")
    anchors = from_section(AnchorConfig, config["anchor"], "anchor")
    anchored = objective.lambda_start > 0 or objective.lambda_end > 0
    if anchored and anchors.components == 0:
        raise UsageError(
            "objective.lambda_start > 0 needs an anchor: set anchor.path to what `jepa-speech fit gmm` wrote"
        )
    if anchored and anchors.features not in DIMS:
        raise UsageError(f"config key anchor.features = {anchors.features!r}: expected {' or '.join(DIMS)}")
    mask = from_section(MaskConfig, config["mask"], "mask")
    return GmmJepa(
        config=objective,
        mask=mask,
        mixing=from_section(MixingConfig, config["mixing"], "mixing"),
        anchor_config=anchors,
        steps=config["train"]["steps"],
        system=system(config, mask.site, anchors.components, objective.predictor_blocks),
        anchor=anchor,
    )
