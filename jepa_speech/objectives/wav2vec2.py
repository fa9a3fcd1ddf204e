"""wav2vec 2.0 (arXiv 2006.11477): identify the quantised features of each masked frame among distractors.

    L = L_w + 0.1 · L_d + 10 · mean(features²)                       (eq. 2; the penalty is the released code's)

L_w, L_d: objective_parts/contrastive.py. The quantiser's input is the unmasked features of the clean wave.
"""

from dataclasses import dataclass

import jax

from jepa_speech.nn.row_random import fold
from jepa_speech.objective_parts.collapse import masked_moments
from jepa_speech.objective_parts.contract import Batch, Term, Tree
from jepa_speech.objective_parts.contrastive import (
    ContrastiveConfig,
    ContrastiveObjective,
    contrastive_parts,
)
from jepa_speech.objective_parts.masked import ENCODER
from jepa_speech.objective_parts.terms import mean_term
from jepa_speech.settings.run_config import RunConfig


@dataclass(frozen=True)
class Wav2Vec2Config(ContrastiveConfig):
    """Config section `objective`, name `wav2vec2`."""

    name: str = "wav2vec2"  # chooses this objective
    # weight of the mean square of the front-end's features [fairseq: loss_weights, second]
    feature_penalty: float = 10.0


@dataclass(frozen=True)
class Wav2Vec2(ContrastiveObjective):
    config: Wav2Vec2Config

    def loss(
        self, params: Tree, aux_state: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        view = self.view(batch, key)
        encoded = self.encode(params, view.mixed, view.lengths, view.mask, fold(view.keys, ENCODER))
        terms, stats, _ = self.contrast(params, view, encoded.z, encoded.features, step, 1.0)
        terms["feature_penalty"] = mean_term(encoded.energy, view.masked + view.visible, self.config.feature_penalty)
        return terms, stats | {"context": masked_moments(encoded.z, view.masked)}


SECTIONS = {"objective": Wav2Vec2Config}


def build(config: RunConfig, anchor: None = None) -> Wav2Vec2:
    """From the whole config."""
    return Wav2Vec2(**contrastive_parts(config))
