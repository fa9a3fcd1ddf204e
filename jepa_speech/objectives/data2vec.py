"""data2vec for audio (arXiv 2202.03555): regress the mean of the teacher's top feed-forward outputs at masked frames.

    L = mean over masked frames of ‖A z_t − y_t‖² / √D,   y_t = 1/K Σ_l IN(ff^l_t)                         (eq. 1, 2)

IN: instance normalisation over time. The loss is the released code's: squared error, summed over D, over √D.
"""

from dataclasses import dataclass

import jax

from jepa_speech.config import of_kind
from jepa_speech.nn.linear import Linear
from jepa_speech.nn.module import Pure
from jepa_speech.nn.row_random import fold
from jepa_speech.objective_parts.collapse import masked_moments
from jepa_speech.objective_parts.contract import Batch, Term, Tree
from jepa_speech.objective_parts.masked import ENCODER, masked_parts
from jepa_speech.objective_parts.self_distilled import (
    SelfDistilled,
    TeacherConfig,
    check_top_blocks,
    regression,
    variance_figures,
)
from jepa_speech.settings.run_config import RunConfig


@dataclass(frozen=True)
class Data2VecConfig(TeacherConfig):
    """Config section `objective`, name `data2vec`."""

    name: str = "data2vec"  # chooses this objective


@dataclass(frozen=True)
class Data2Vec(SelfDistilled):
    head: Pure

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        keys = jax.random.split(key)
        params = {"encoder": self.encoder.init(keys[0]), "head": self.head.init(keys[1])}
        return params, {"teacher": self.teacher(params)}

    def loss(
        self, params: Tree, aux_state: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        view = self.view(batch, key)
        z = self.encode(params, view.mixed, view.lengths, view.mask, fold(view.keys, ENCODER)).z
        target = self.target(params, aux_state, view)
        term, stats = regression(self.head.apply(params["head"], z), target, view.masked)
        return {"regression": term}, stats | {"context": masked_moments(z, view.masked)}

    def report(self, stats: Tree) -> dict[str, jax.Array]:
        return super().report(stats) | variance_figures(stats)


SECTIONS = {"objective": Data2VecConfig}


def build(config: RunConfig, anchor: None = None) -> Data2Vec:
    """From the whole config."""
    objective, parts = of_kind(config.objective, Data2VecConfig), masked_parts(config)
    check_top_blocks(objective.top_blocks, config.encoder.blocks)
    width = parts["encoder"].width
    return Data2Vec(**parts, config=objective, head=Pure(lambda rngs: Linear(width, width, rngs=rngs)))
