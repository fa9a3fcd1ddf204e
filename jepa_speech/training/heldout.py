"""The loss on held-out recordings, term by term: during training, and by `jepa-speech evaluate`."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from jepa_speech.objective_parts.contract import Objective
from jepa_speech.training.compiled import compiler_options
from jepa_speech.training.state import Tree
from jepa_speech.training.step import total_loss, value

Batch = Mapping[str, Any]
Evaluate = Callable[[Tree, Tree, Any, Iterable[Batch]], dict[str, float]]


def make_evaluate(objective: Objective, key: jax.Array, shardings: Any = None) -> Evaluate:
    """The function (params, aux_state, step, batches) -> figures of all batches together, as if they were one.

    Masks are drawn as in training, from `key`: the same ones every time. Schedules are those of `step`. Sums are added
    up in float64. The figures are "loss", every term's mean by its name, and those of the objective's report.
    shardings: of what comes out of a batch, for arrays over several devices.
    """

    def sums_of(params: Tree, aux_state: Tree, batch: Batch, step: jax.Array) -> tuple[Tree, Tree]:
        return objective.eval_loss(params, aux_state, batch, key, step)

    jitted = jax.jit(sums_of, out_shardings=shardings, compiler_options=compiler_options())

    def evaluate(params: Tree, aux_state: Tree, step: Any, batches: Iterable[Batch]) -> dict[str, float]:
        sums = None
        for batch in batches:
            terms, stats = jax.tree.map(np.float64, jax.device_get(jitted(params, aux_state, batch, step)))
            parts = {name: (term.total, term.weight) for name, term in terms.items()}, stats
            sums = parts if sums is None else jax.tree.map(np.add, sums, parts)
        assert sums is not None  # of one batch at least
        for name, (total, weight) in sums[0].items():
            terms[name] = replace(terms[name], total=total, weight=weight)
        return figures(objective, terms, sums[1])

    return evaluate


def figure_names(objective: Objective, params: Tree, aux_state: Tree, batch: Batch) -> list[str]:
    """Returns the names of the figures of `make_evaluate`, without compiling. A batch of training has the fields."""

    def names_of(params: Tree, aux_state: Tree, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[Tree, Tree]:
        terms, stats = objective.eval_loss(params, aux_state, batch, key, step)
        return terms, objective.report(stats)

    key, step = jax.eval_shape(lambda: (jax.random.PRNGKey(0), np.int32(0)))
    terms, report = jax.eval_shape(names_of, params, aux_state, batch, key, step)
    return ["loss", *terms, *report]


def figures(objective: Objective, terms: dict, stats: Tree) -> dict[str, float]:
    with jax.transfer_guard("allow"):  # numbers of the host, once an evaluation
        found = {"loss": total_loss(terms)} | {name: value(term) for name, term in terms.items()}
        found |= objective.report(jax.tree.map(lambda x: x.astype(np.float32), stats))
        return {name: float(figure) for name, figure in found.items()}
