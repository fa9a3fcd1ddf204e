"""One train step for all objectives: terms → loss → gradient → AdamW → auxiliary state."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding

from jepa_speech.objective_parts.contract import Objective
from jepa_speech.train.compiled import BEFOREHAND
from jepa_speech.train.sharding import replicated
from jepa_speech.train.state import TrainState, Tree, path_name

Batch = dict[str, jax.Array]
Metrics = dict[str, Any]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]

TINY = 1e-6  # a term without weight (no valid masked frame in the whole batch) counts as 0


def make_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    schedule: Callable[[jax.Array], jax.Array],
    report_due: Callable[[jax.Array], jax.Array],
    accumulate: int = 1,
    shardings: TrainState | None = None,
) -> Step:
    """The pure function (state, batch) -> (state, metrics), to be jitted with the state donated.

    shardings: where each array of the state lives. Then weights that are split are gathered whole before the loss, and
    gradients are split as they are summed: left to itself, XLA may split the work on a weight instead, and gather
    activations, which are larger (it does so in a scan over blocks).

    Each loss term is divided once, by its weight over the global batch; gradients of `accumulate`
    micro-batches add up to exactly that. A step whose loss or gradient is not finite changes nothing
    but the counters, on all devices together.

    metrics: "loss", "grad_norm", "learning_rate", "skipped", "skipped_in_row", "terms" (name -> mean),
    "report" (name -> figure, meaningful only at steps where `report_due(step number)`).
    """

    def gathered(state: TrainState) -> TrainState:
        if shardings is None:
            return state
        everywhere = replicated(cast(NamedSharding, shardings.step).mesh)
        weights = jax.lax.with_sharding_constraint((state.params, state.aux_state), everywhere)
        return replace(state, params=weights[0], aux_state=weights[1])

    def scattered(grads: Tree) -> Tree:
        return grads if shardings is None else jax.lax.with_sharding_constraint(grads, shardings.params)

    def terms_of(params: Tree, state: TrainState, batch: Batch) -> tuple[dict, Tree]:
        return objective.loss(params, state.aux_state, batch, state.key, state.step)

    def whole(state: TrainState, batch: Batch) -> tuple[Tree, dict, Tree]:
        def loss(params: Tree) -> tuple[jax.Array, tuple[dict, Tree]]:
            terms, stats = terms_of(params, state, batch)
            return total_loss(terms), (terms, stats)

        grads, (terms, stats) = jax.grad(loss, has_aux=True)(state.params)
        return scattered(grads), terms, stats

    def in_parts(state: TrainState, batch: Batch) -> tuple[Tree, dict, Tree]:
        # Row r goes to micro-batch r mod `accumulate`: every device keeps the rows that it has.
        parts = {k: v.reshape(-1, accumulate, *v.shape[1:]).swapaxes(0, 1) for k, v in batch.items()}

        def sums_of(part: Batch) -> dict:  # of linear terms only the weight is wanted: XLA drops what totals need
            terms = terms_of(state.params, state, part)[0]
            return {name: (() if linear(term) else term.total, term.weight) for name, term in terms.items()}

        with jax.named_scope(BEFOREHAND):
            sums = jax.tree.map(lambda x: x.sum(0), jax.lax.map(sums_of, parts))

        def loss(params: Tree, part: Batch) -> tuple[jax.Array, tuple[dict, Tree]]:
            terms, stats = terms_of(params, state, part)
            return share(terms, sums), (terms, stats)

        def body(total: Tree, part: Batch) -> tuple[Tree, dict]:
            grads, (terms, stats) = jax.grad(loss, has_aux=True)(state.params, part)
            return jax.tree.map(jnp.add, total, (scattered(grads), stats)), terms

        first = {k: v[0] for k, v in parts.items()}
        zeros = jax.tree.map(
            lambda s: jnp.zeros(s.shape, s.dtype),
            (state.params, jax.eval_shape(lambda: terms_of(state.params, state, first)[1])),
        )
        zeros = scattered(zeros[0]), zeros[1]
        (grads, stats), terms = jax.lax.scan(body, zeros, parts)
        terms = {
            name: replace(term, total=term.total.sum(0), weight=term.weight.sum(0), scale=term.scale[0])
            for name, term in terms.items()
        }
        return grads, terms, stats

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        grads, terms, stats = (whole if accumulate == 1 else in_parts)(gathered(state), batch)
        loss = total_loss(terms)
        grad_norm = optax.tree.norm(grads)
        rate = schedule(state.step)

        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        rates = objective.rates(state.step)
        params = jax.tree_util.tree_map_with_path(
            lambda path, p, u: p - rate * multiplier(rates, path_name(path)) * u, state.params, updates
        )
        aux_state = objective.update_aux_state(state.aux_state, params, stats, state.step)

        good = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        params, aux_state, opt_state = jax.tree.map(
            lambda new, old: jnp.where(good, new, old),
            (params, aux_state, opt_state),
            (state.params, state.aux_state, state.opt_state),
        )
        after = replace(
            state,
            params=params,
            aux_state=aux_state,
            opt_state=opt_state,
            step=state.step + 1,
            skipped=state.skipped + ~good,
            skipped_in_row=jnp.where(good, 0, state.skipped_in_row + 1),
        )
        return after, {
            "loss": loss,
            "grad_norm": grad_norm,
            "learning_rate": rate,
            "skipped": after.skipped,
            "skipped_in_row": after.skipped_in_row,
            "terms": {name: value(term) for name, term in terms.items()},
            "report": report(stats, after.step),
        }

    def report(stats: Tree, number: jax.Array) -> dict:
        blank = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(objective.report, stats))
        return jax.lax.cond(report_due(number), objective.report, lambda _: blank, stats)

    return step


def total_loss(terms: dict) -> jax.Array:
    """Σ scale · of(total / weight), in float32."""
    return jnp.sum(jnp.stack([term.scale * value(term) for term in terms.values()]).astype(jnp.float32))


def value(term: Any) -> jax.Array:
    return term.of(mean(term.total, term.weight))


def linear(term: Any) -> bool:
    """Whether the term is the mean itself."""
    return term.total.ndim == 0


def share(terms: dict, sums: dict) -> jax.Array:
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


def multiplier(rates: dict, path: str) -> jax.Array | float:
    """Of the learning rate at a path such as encoder/blocks/0/ff/up/kernel, by the prefixes of `rates`."""
    return math.prod(rate for prefix, rate in rates.items() if f"{path}/".startswith(f"{prefix}/"))


def mean(total: jax.Array, weight: jax.Array) -> jax.Array:
    return total / jnp.maximum(jax.lax.stop_gradient(weight), TINY)
