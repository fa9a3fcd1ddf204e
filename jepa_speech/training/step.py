"""One train step for all objectives: terms → loss → gradient → AdamW → auxiliary state → keep if finite."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding

from jepa_speech.objective_parts.contract import Objective, Term
from jepa_speech.training.compiled import BEFOREHAND
from jepa_speech.training.sharding import replicated
from jepa_speech.training.state import TrainState, Tree, path_name

Batch = dict[str, jax.Array]
Metrics = dict[str, Any]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
Terms = dict[str, Term]
TermsOf = Callable[[Tree, Batch], tuple[Terms, Tree]]  # (params, batch) -> loss terms, stats

TINY = 1e-6  # a term without weight (no valid masked frame in the whole batch) counts as 0


def make_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    schedule: Callable[[jax.Array], jax.Array],
    report_due: Callable[[jax.Array], jax.Array],
    accumulate: int = 1,
    shardings: TrainState | None = None,
) -> Step:
    """Returns the pure function (state, batch) -> (state, metrics), to be jitted with the state donated.

    Args:
        accumulate: the number of micro-batches, one after the other. It does not change the gradient: each loss term
            is divided once, by its weight over the global batch.
        shardings: where each array of the state is placed, if weights are split over devices.

    A step whose loss or gradient is not finite on at least one device changes only `step` and the counters `skipped`
    and `skipped_in_row`, on all devices.

    metrics: "loss", "grad_norm", "learning_rate", "skipped", "skipped_in_row", "terms" (name -> mean),
    "report" (name -> figure, meaningful only at steps where `report_due(step number)`).
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        grads, terms, stats = gradient(objective, state, batch, accumulate, shardings)
        loss = total_loss(terms)
        grad_norm = optax.tree.norm(grads)
        rate = schedule(state.step)

        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = updated(state.params, updates, rate, objective.rates(state.step))
        aux_state = objective.update_aux_state(state.aux_state, params, stats, state.step)

        good = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        state = next_state(state, params, aux_state, opt_state, good)
        return state, {
            "loss": loss,
            "grad_norm": grad_norm,
            "learning_rate": rate,
            "skipped": state.skipped,
            "skipped_in_row": state.skipped_in_row,
            "terms": {name: value(term) for name, term in terms.items()},
            "report": report(objective, stats, report_due(state.step)),
        }

    return step


def gradient(
    objective: Objective, state: TrainState, batch: Batch, accumulate: int, shardings: TrainState | None
) -> tuple[Tree, Terms, Tree]:
    """Returns the gradient of the loss, the loss terms, and the stats, all of the whole batch.

    Weights that are split are gathered before the loss, and gradients are split as they are summed. Otherwise XLA may
    split the work on a weight and gather activations, which are larger (it does so in a scan over blocks).
    """
    params, aux_state = state.params, state.aux_state
    if shardings is not None:
        everywhere = replicated(cast(NamedSharding, shardings.step).mesh)
        params, aux_state = jax.lax.with_sharding_constraint((params, aux_state), everywhere)

    def terms_of(params: Tree, batch: Batch) -> tuple[Terms, Tree]:
        return objective.loss(params, aux_state, batch, state.key, state.step)

    def split(grads: Tree) -> Tree:
        return grads if shardings is None else jax.lax.with_sharding_constraint(grads, shardings.params)

    if accumulate > 1:
        return gradient_by_parts(terms_of, params, batch, accumulate, split)
    grads, (terms, stats) = gradient_of(total_loss, terms_of, params, batch)
    return split(grads), terms, stats


def gradient_of(
    loss_of: Callable[[Terms], jax.Array], terms_of: TermsOf, params: Tree, batch: Batch
) -> tuple[Tree, tuple[Terms, Tree]]:
    """Returns the gradient of `loss_of(terms)` by the params, and (terms, stats)."""

    def loss(params: Tree) -> tuple[jax.Array, tuple[Terms, Tree]]:
        terms, stats = terms_of(params, batch)
        return loss_of(terms), (terms, stats)

    return jax.grad(loss, has_aux=True)(params)


def gradient_by_parts(
    terms_of: TermsOf, params: Tree, batch: Batch, accumulate: int, split: Callable[[Tree], Tree]
) -> tuple[Tree, Terms, Tree]:
    """Returns what `gradient` does, from one micro-batch after the other.

    A first pass sums the weights of the terms, because each micro-batch divides by those of the whole batch.
    """
    # Row r goes to micro-batch r mod `accumulate`: every device keeps the rows that it has.
    parts = {k: v.reshape(-1, accumulate, *v.shape[1:]).swapaxes(0, 1) for k, v in batch.items()}

    def sums_of(part: Batch) -> dict:
        terms, _ = terms_of(params, part)
        # The total of a linear term is not needed, so XLA drops most of the forward pass.
        return {name: (() if linear(term) else term.total, term.weight) for name, term in terms.items()}

    with jax.named_scope(BEFOREHAND):
        sums = jax.tree.map(lambda x: x.sum(0), jax.lax.map(sums_of, parts))

    def body(total: Tree, part: Batch) -> tuple[Tree, Terms]:
        grads, (terms, stats) = gradient_of(lambda terms: share(terms, sums), terms_of, params, part)
        return jax.tree.map(jnp.add, total, (split(grads), stats)), terms

    first = {k: v[0] for k, v in parts.items()}
    grads, stats = jax.tree.map(jnp.zeros_like, (params, jax.eval_shape(lambda: terms_of(params, first)[1])))
    (grads, stats), terms = jax.lax.scan(body, (split(grads), stats), parts)
    terms = {
        name: replace(term, total=term.total.sum(0), weight=term.weight.sum(0), scale=cast(jax.Array, term.scale)[0])
        for name, term in terms.items()
    }
    return grads, terms, stats


def updated(params: Tree, updates: Tree, rate: jax.Array, rates: dict) -> Tree:
    """params − rate · update, where the rate of a path is multiplied by `rates`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, p, u: p - rate * multiplier(rates, path_name(path)) * u, params, updates
    )


def multiplier(rates: dict, path: str) -> jax.Array | float:
    """Of the learning rate at a path such as encoder/blocks/0/ff/up/kernel, by the prefixes of `rates`."""
    return math.prod(rate for prefix, rate in rates.items() if f"{path}/".startswith(f"{prefix}/"))


def next_state(state: TrainState, params: Tree, aux_state: Tree, opt_state: Tree, good: jax.Array) -> TrainState:
    """Returns the state after a step: with the new arrays if the step was `good`, else with the old ones."""
    params, aux_state, opt_state = jax.tree.map(
        lambda new, old: jnp.where(good, new, old),
        (params, aux_state, opt_state),
        (state.params, state.aux_state, state.opt_state),
    )
    return replace(
        state,
        params=params,
        aux_state=aux_state,
        opt_state=opt_state,
        step=state.step + 1,
        skipped=state.skipped + ~good,
        skipped_in_row=jnp.where(good, 0, state.skipped_in_row + 1),
    )


def report(objective: Objective, stats: Tree, due: jax.Array) -> dict:
    """Returns the objective's figures of the stats if they are due, else zeros."""
    blank = jax.tree.map(jnp.zeros_like, jax.eval_shape(objective.report, stats))
    return jax.lax.cond(due, objective.report, lambda _: blank, stats)


def total_loss(terms: Terms) -> jax.Array:
    """Σ scale · of(total / weight), in float32."""
    return jnp.sum(jnp.stack([term.scale * value(term) for term in terms.values()]).astype(jnp.float32))


def value(term: Term) -> jax.Array:
    """of(total / weight), a scalar."""
    return term.of(mean(term.total, term.weight))


def linear(term: Term) -> bool:
    """Whether the term is the mean itself."""
    return term.total.ndim == 0


def share(terms: Terms, sums: dict) -> jax.Array:
    """A micro-batch's share of the loss: its gradient, added over micro-batches, is that of `total_loss`.

    sums: of each term over the whole batch, (total or (), weight). A term that is no mean counts as its tangent at
    the mean of the whole batch.
    """
    parts = []
    for name, term in terms.items():
        total, weight = sums[name]
        part = mean(term.total, weight)
        if not linear(term):
            part = jnp.vdot(jax.grad(term.of)(mean(total, weight)), part)
        parts.append(term.scale * part)
    return jnp.sum(jnp.stack(parts).astype(jnp.float32))


def mean(total: jax.Array, weight: jax.Array) -> jax.Array:
    """total / weight; 0 without weight. No gradient flows into the weight."""
    return total / jnp.maximum(jax.lax.stop_gradient(weight), TINY)
