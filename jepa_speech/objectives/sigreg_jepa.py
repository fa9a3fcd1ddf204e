"""JEPA held by SIGReg alone (GLaS-JEPA, arXiv 2609.37798; SIGReg: LeJEPA, arXiv 2511.08544).

    L      = L_pred + w · SIGReg(z over all valid frames)
    L_pred = mean over masked frames of ‖ẑ_t − sg(z_t)‖² / D

z_t = A enc(clean, whole view)_t and ẑ_t = A enc(masked view)_t, of one encoder and one linear map A. No EMA teacher, no
predictor. SIGReg's gradient flows through the whole view, that of L_pred through the masked one.

The paper's L is 0.99 · D · L_pred + 0.01 · SIGReg. Its factor N is not stated; with N = 200,000 frames of a step and
D = 128 that is w = 15.8 here, within the 5 to 25 of other published settings. The whole view has no dropout.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jepa_speech.config import check_sizes, of_kind
from jepa_speech.nn.linear import Linear
from jepa_speech.nn.module import Pure
from jepa_speech.nn.row_random import fold
from jepa_speech.objective_parts.collapse import effective_rank, least_std, masked_moments, variance
from jepa_speech.objective_parts.contract import Batch, Term, Tree
from jepa_speech.objective_parts.masked import ENCODER, MaskedObjective, check_masked_before_encoder, masked_parts
from jepa_speech.objective_parts.sigreg import check_weight, excess, sigreg_term, unit_vectors
from jepa_speech.objective_parts.terms import mean_term
from jepa_speech.settings.run_config import RunConfig


@dataclass(frozen=True)
class SigregJepaConfig:
    """Config section `objective`, name `sigreg_jepa`."""

    name: str = "sigreg_jepa"  # chooses this objective
    projection: int = 128  # width of the linear map in which frames are predicted and regularised [paper: D]
    # effective weight of SIGReg: of the statistic without its factor N (objective_parts/sigreg.py) [GLaS-JEPA: λ N / D]
    sigreg_weight: float = 15.0
    sigreg_directions: int = 1024  # random directions of SIGReg, drawn anew in each step [LeJEPA: M]

    def __post_init__(self) -> None:
        check_sizes(self, "objective", ("projection", "sigreg_directions"))
        check_weight(self.sigreg_weight)


@dataclass(frozen=True)
class SigregJepa(MaskedObjective):
    config: SigregJepaConfig
    projector: Pure

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        # Not from zero: there SIGReg has no gradient.
        keys = jax.random.split(key)
        return {"encoder": self.encoder.init(keys[0]), "projector": self.projector.init(keys[1])}, {}

    def loss(
        self, params: Tree, aux_state: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        view, c = self.view(batch, key), self.config

        def projected(z: jax.Array) -> jax.Array:
            return self.projector.apply(params["projector"], z).astype(jnp.float32)

        context = self.encode(params, view.mixed, view.lengths, view.mask, fold(view.keys, ENCODER)).z  # (B, T, width)
        prediction = projected(context)  # (B, T, D)
        whole = projected(self.encode(params, view.unmixed, view.lengths, None, None).z)
        target = jax.lax.stop_gradient(whole)
        error = jnp.square(prediction - target).mean(-1)  # (B, T)
        directions = unit_vectors(key, step, c.sigreg_directions, c.projection)
        sigreg = sigreg_term(whole, view.masked + view.visible, directions, c.sigreg_weight)
        vectors = {"context": context, "prediction": prediction, "target": target}
        stats = {name: masked_moments(x, view.masked) for name, x in vectors.items()}
        terms = {"prediction": mean_term(error, view.masked, 1.0), "sigreg": sigreg}
        return terms, stats | {"sigreg": (sigreg.total, sigreg.weight)}

    def report(self, stats: Tree) -> dict[str, jax.Array]:
        """target_variance is also the prediction loss of a predictor that knows only the mean of the targets."""
        return super().report(stats) | {
            "prediction_variance": variance(stats["prediction"]),
            "target_variance": variance(stats["target"]),
            "target_rank": effective_rank(stats["target"]),
            "target_least_std": least_std(stats["target"]),
            "sigreg_excess": excess(*stats["sigreg"]),
        }


SECTIONS = {"objective": SigregJepaConfig}


def build(config: RunConfig, anchor: None = None) -> SigregJepa:
    """From the whole config."""
    objective, parts = of_kind(config.objective, SigregJepaConfig), masked_parts(config)
    check_masked_before_encoder(config)
    width = parts["encoder"].width
    projector = Pure(lambda rngs: Linear(width, objective.projection, rngs=rngs))
    return SigregJepa(**parts, config=objective, projector=projector)
