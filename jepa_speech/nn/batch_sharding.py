"""Functions of whole rows, such as kernels, on several devices: each device computes its own rows."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

# 2026-11: experimental; jax 0.12 refuses it only without a sharding rule. jax.shard_map would replace it.
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

ROWS = "b"  # the name of their axis


def by_rows(rule: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Returns `function` so that devices split its rows between them without communication. function(options, *arrays),
    with hashable options.

    rule: the axes' names, as "b t c, h t, b -> b t c". What begins with b is split as the first such argument is, and
    all else is whole on every device. A sum over rows belongs outside of the function, which sees a part of them.
    """
    arguments_have, results_have = (
        [axes.split()[:1] == [ROWS] for axes in side.split(",")] for side in rule.split("->")
    )
    names = dict.fromkeys(rule.replace("->", " ").replace(",", " ").split())  # by first appearance, as jax wants them
    whole = tuple(name for name in names if name != ROWS)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        split = custom_partitioning(function, static_argnums=(0,))

        def partition(options: Any, mesh: Any, arguments: tuple, results: Any) -> tuple:
            rows = (*arguments[arguments_have.index(True)].sharding.spec, None)[0]

            def place(x: Any, has: bool) -> NamedSharding:
                axes = [rows, *[None] * (len(x.shape) - 1)] if has else []
                return NamedSharding(mesh, PartitionSpec(*axes))

            leaves, tree = jax.tree.flatten(results)
            outcome = jax.tree.unflatten(tree, map(place, leaves, results_have))
            return mesh, partial(function, options), outcome, tuple(map(place, arguments, arguments_have))

        split.def_partition(partition, sharding_rule=rule, need_replication_factors=whole)
        return split

    return decorate
