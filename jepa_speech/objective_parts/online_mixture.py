"""An online mixture on one layer of a teacher: its state, and how the layer is chosen (S-JEPA, arXiv 2606.19398).

The mixture is seeded on the reservoir once that holds enough frames. From then on each batch updates it. Every
`layer_every` steps the effective rank of each layer is measured on the reservoir and smoothed. If another layer has the
highest rank, the mixture is seeded again on the frames of that layer.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jepa_speech.anchors import online
from jepa_speech.objective_parts import reservoir
from jepa_speech.objective_parts.collapse import rank_of_singular_values, singular_values
from jepa_speech.objective_parts.contract import Tree

FRAMES = 8  # per component, without which nothing is seeded
RANK_DECAY = 0.5  # of the smoothed ranks; the paper smooths but does not say how much


@dataclass(frozen=True)
class OnlineMixture:
    """components: K · layers, width: of the teacher · rule, decay: of updates · size: frames of the reservoir, R."""

    components: int
    layers: int
    width: int
    rule: online.Rule
    decay: float
    layer_every: int
    size: int

    def init(self) -> Tree:
        """The state, all float32. `layer` (L,) is 1 at the layer in use, the last one at first; `ranks` (L,) are the
        smoothed effective ranks. The mixture's weights are 0 until it is seeded.
        """
        return {
            "mixture": online.blank(self.components, self.width),
            "reservoir": reservoir.empty(self.layers, self.size, self.width),
            "layer": jnp.zeros(self.layers).at[-1].set(1),
            "ranks": jnp.zeros(self.layers),
        }

    def update(self, state: Tree, sums: online.Sums, offer: Tree, step: jax.Array) -> Tree:
        """The state after a step with these sums of posteriors and this offer to the reservoir."""
        kept = reservoir.refilled(state["reservoir"], offer, step)
        frames = chosen(state["layer"], list(kept["frames"]))  # (R, D)
        moved = online.updated(state["mixture"], sums, 1 - self.decay, self.rule)
        moved = online.revived(moved, frames, kept["filled"], step)
        seeded = is_seeded(state)
        mixture = jax.tree.map(lambda new, old: jnp.where(seeded, new, old), moved, state["mixture"])
        state = state | {"mixture": mixture, "reservoir": kept}
        enough = kept["filled"].sum() >= FRAMES * self.components
        due = jnp.where(seeded, (step + 1) % self.layer_every == 0, enough)
        return jax.lax.cond(due, self.with_chosen_layer, lambda state: state, state)

    def with_chosen_layer(self, state: Tree) -> Tree:
        """The state with the layer of the highest smoothed rank, and a new mixture where there was none on it."""
        frames, filled = state["reservoir"]["frames"], state["reservoir"]["filled"]
        measured, seeded = jax.vmap(lambda x: rank(x, filled))(frames), is_seeded(state)
        ranks = jnp.where(seeded, RANK_DECAY * state["ranks"] + (1 - RANK_DECAY) * measured, measured)
        layer = jax.nn.one_hot(ranks.argmax(), self.layers)
        fresh = ~seeded | jnp.any(layer != state["layer"])
        mixture = online.seeded(state["mixture"], chosen(layer, list(frames)), filled, fresh)
        return state | {"mixture": mixture, "layer": layer, "ranks": ranks}


def is_seeded(state: Tree) -> jax.Array:
    """Whether the mixture has been seeded, (). It is a part of the mixture, so a run that takes one takes the other."""
    return state["mixture"]["weights"].sum() > 0


def chosen(layer: jax.Array, arrays: list[jax.Array]) -> jax.Array:
    """The array of the layer in use, float32: layer (L,), 1 at its place -> as one of the arrays."""
    return sum((weight * x.astype(jnp.float32) for weight, x in zip(layer, arrays, strict=True)), jnp.zeros(()))


def rank(frames: jax.Array, filled: jax.Array) -> jax.Array:
    """Effective rank of the frames (R, D) where `filled` (R,) is 1.

    From the frames and not from their covariance, whose small eigenvalues are rounding: ranks are compared.
    """
    mean = jnp.sum(frames * filled[:, None], axis=0) / jnp.maximum(filled.sum(), 1)
    return rank_of_singular_values(singular_values((frames - mean) * filled[:, None]))
