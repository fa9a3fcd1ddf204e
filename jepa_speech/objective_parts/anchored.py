"""Frozen targets: the anchor's labels of each frame, read from the store or computed in the step."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.anchors.anchor import Anchor
from jepa_speech.anchors.ensemble import Ensemble
from jepa_speech.anchors.gmm import DiagonalGMM, frame_posteriors
from jepa_speech.anchors.sparse import top_k
from jepa_speech.errors import UsageError
from jepa_speech.features.grid import FRAME_RATE, WINDOW
from jepa_speech.features.spectral import DIMS, delta_edge
from jepa_speech.nn.module import PureEncoder
from jepa_speech.nn.row_random import valid
from jepa_speech.objective_parts.contract import Batch, Tree
from jepa_speech.settings.run_config import AnchorConfig, RunConfig


@dataclass(frozen=True)
class AnchorTargets:
    config: AnchorConfig
    anchor: Anchor | Ensemble | None = None

    @property
    def online(self) -> bool:
        return self.config.source == "online"

    @property
    def batch_fields(self) -> frozenset[str]:
        if not self.online:
            return frozenset({"anchor"})
        return frozenset({"anchor_mean"} if self.config.normalize == "mean" else ())

    def init(self) -> Tree:
        """What `aux_state` must hold: the frozen anchor where labels are computed in the step.

        A checkpoint brings its own: then only the shapes matter.
        """
        if not self.online:
            return {}
        if self.anchor is not None:
            assert isinstance(self.anchor, Anchor)  # labels of an ensemble are stored
            return {"anchor": self.anchor.arrays()}
        blank = np.ones((self.config.components, DIMS[self.config.features]), np.float32)
        mixture = DiagonalGMM(
            means=blank,
            variances=blank,
            weights=blank[:, 0],
            shift=blank[0],
            scale=blank[0],
            features=self.config.features,
        )
        return {"anchor": mixture.arrays()}

    def __call__(
        self, aux_state: Tree, batch: Batch, clean: jax.Array, frame_lengths: jax.Array, size: int
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """ids and probabilities (B, T, k) of the posteriors' top k, and the frames (B, T) that have one."""
        if not self.online:
            ids, q = batch["anchor_ids"], batch["anchor_probs"]
            return ids, q, valid(frame_lengths, size)
        kind = self.config.features
        dense = frame_posteriors(
            aux_state["anchor"], kind, clean, mean=batch.get("anchor_mean"), lengths=batch["lengths"]
        )
        ids, q = top_k(dense, self.config.top_k)
        edge = delta_edge(kind)  # deltas there would see what lies beyond the crop
        labelled = valid(frame_lengths - edge, size) & (jnp.arange(size) >= edge)
        return jax.lax.stop_gradient(ids), jax.lax.stop_gradient(q), labelled


def anchor_targets(
    config: RunConfig, anchor: Anchor | Ensemble | None, encoder: PureEncoder, why: str
) -> AnchorTargets:
    """From the whole config; raises UsageError, saying `why` an anchor is needed, where there is none that fits."""
    section = config.anchor
    if section.components == 0:
        raise UsageError(f"{why} needs an anchor: set anchor.path to what `jepa-speech fit` wrote")
    if section.source == "online" and section.features not in DIMS:
        raise UsageError(f"config key anchor.features = {section.features!r}: expected {' or '.join(DIMS)}")
    if encoder.frame_rate != FRAME_RATE:
        raise UsageError(
            f"{why} has labels at {FRAME_RATE:g} Hz, but encoder.name = {config.encoder.name} has frames at "
            f"{encoder.frame_rate:g} Hz: choose another encoder"
        )
    if encoder.min_samples != WINDOW:
        raise UsageError(
            f"{why} has a label for every frame that {WINDOW} samples fill, but a frame of encoder.name = "
            f"{config.encoder.name} takes {encoder.min_samples}: choose another encoder or an objective without "
            "an anchor"
        )
    return AnchorTargets(section, anchor)
