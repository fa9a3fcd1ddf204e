"""One train step for all objectives: terms → loss → gradient → AdamW → slow state."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jepa_speech.train.state import TrainState, Tree

Batch = dict[str, jax.Array]
Metrics = dict[str, Any]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]

TINY = 1e-6  # a term without weight (no valid masked frame in the whole batch) counts as 0


def make_step(
    objective: Any,
    optimizer: optax.GradientTransformation,
    schedule: Callable[[jax.Array], jax.Array],
    report_due: Callable[[jax.Array], jax.Array],
    accumulate: int = 1,
) -> Step:
    """The pure function (state, batch) -> (state, metrics), to be jitted with the state donated.

    Each loss term is divided once, by its weight over the global batch; gradients of `accumulate`
    micro-batches add up to exactly that. A step whose loss or gradient is not finite changes nothing
    but the counters, on all devices together.

    metrics: "loss", "grad_norm", "learning_rate", "skipped", "skipped_in_row", "terms" (name -> mean),
    "report" (name -> figure, meaningful only at steps where `report_due(step number)`).
    """

    def terms_of(params: Tree, state: TrainState, batch: Batch) -> tuple[dict, Tree]:
        return objective.loss(params, state.slow, batch, state.key, state.step)

    def whole(state: TrainState, batch: Batch) -> tuple[Tree, dict, Tree]:
        def loss(params: Tree) -> tuple[jax.Array, tuple[dict, Tree]]:
            terms, stats = terms_of(params, state, batch)
            return contribution(terms, {name: term.weight for name, term in terms.items()}), (terms, stats)

        grads, (terms, stats) = jax.grad(loss, has_aux=True)(state.params)
        return grads, terms, stats

    def in_parts(state: TrainState, batch: Batch) -> tuple[Tree, dict, Tree]:
        # Row r goes to micro-batch r mod `accumulate`: every device keeps the rows that it has.
        parts = {k: v.reshape(-1, accumulate, *v.shape[1:]).swapaxes(0, 1) for k, v in batch.items()}

        def weights_of(part: Batch) -> dict:  # XLA drops what only the totals need
            return {name: term.weight for name, term in terms_of(state.params, state, part)[0].items()}

        weights = jax.tree.map(lambda w: w.sum(0), jax.lax.map(weights_of, parts))

        def loss(params: Tree, part: Batch) -> tuple[jax.Array, tuple[dict, Tree]]:
            terms, stats = terms_of(params, state, part)
            return contribution(terms, weights), (terms, stats)

        def body(total: Tree, part: Batch) -> tuple[Tree, dict]:
            grads, (terms, stats) = jax.grad(loss, has_aux=True)(state.params, part)
            return jax.tree.map(jnp.add, total, (grads, stats)), terms

        first = {k: v[0] for k, v in parts.items()}
        zeros = jax.tree.map(
            lambda s: jnp.zeros(s.shape, s.dtype),
            (state.params, jax.eval_shape(lambda: terms_of(state.params, state, first)[1])),
        )
        (grads, stats), terms = jax.lax.scan(body, zeros, parts)
        terms = {
            name: term._replace(total=term.total.sum(0), weight=term.weight.sum(0), scale=term.scale[0])
            for name, term in terms.items()
        }
        return grads, terms, stats

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        grads, terms, stats = (whole if accumulate == 1 else in_parts)(state, batch)
        loss = contribution(terms, {name: term.weight for name, term in terms.items()})
        grad_norm = optax.tree.norm(grads)
        rate = schedule(state.step)

        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
        slow = objective.update_slow(state.slow, params, stats, state.step)

        good = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        params, slow, opt_state = jax.tree.map(
            lambda new, old: jnp.where(good, new, old),
            (params, slow, opt_state),
            (state.params, state.slow, state.opt_state),
        )
        after = replace(
            state,
            params=params,
            slow=slow,
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
            "terms": {name: mean(term.total, term.weight) for name, term in terms.items()},
            "report": report(stats, after.step),
        }

    def report(stats: Tree, number: jax.Array) -> dict:
        blank = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(objective.report, stats))
        return jax.lax.cond(report_due(number), objective.report, lambda _: blank, stats)

    return step


def contribution(terms: dict, weights: dict) -> jax.Array:
    """Σ scale · total / weight, in float32."""
    parts = [term.scale * mean(term.total, weights[name]) for name, term in terms.items()]
    return jnp.sum(jnp.stack(parts).astype(jnp.float32))


def mean(total: jax.Array, weight: jax.Array) -> jax.Array:
    return total / jnp.maximum(jax.lax.stop_gradient(weight), TINY)
