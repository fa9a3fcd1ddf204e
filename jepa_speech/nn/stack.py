"""A stack of equal blocks: one after the other, or as a scan over their parameters, which compiles one block for all.

The parameters are a list in both cases, one subtree for each block, so checkpoints are the same. The scan stacks them
in each step: this costs a copy in memory, and compile time does not grow with depth.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

Block = TypeVar("Block", bound=nnx.Module)

# step(block, x, i): block i, whose number may be traced, takes x (B, T, D) to its output and its feed-forward's.
Step = Callable[[Block, jax.Array, int | jax.Array], tuple[jax.Array, jax.Array]]


def through(
    blocks: Sequence[Block], x: jax.Array, step: Step[Block], scan: bool, remat: bool
) -> tuple[list[jax.Array], list[jax.Array]]:
    """x (B, T, D) through all blocks -> [x, then each block's output], [each block's feed-forward].

    remat: the backward pass recomputes each block instead of keeping its activations.
    """
    if not blocks:
        return [x], []
    graph, _ = nnx.split(blocks[0])

    def run(x: jax.Array, block: tuple[nnx.State, int | jax.Array]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        params, i = block
        x, ff = step(nnx.merge(graph, params), x, i)
        return x, (x, ff)

    run = jax.checkpoint(run, prevent_cse=not scan) if remat else run
    params = [nnx.split(block)[1] for block in blocks]
    if scan:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
        _, (outputs, ffs) = jax.lax.scan(run, x, (stacked, jnp.arange(len(blocks))))
        return [x, *outputs], list(ffs)
    layers, ffs = [x], []
    for i, block in enumerate(params):
        x, (_, ff) = run(x, (block, i))
        layers.append(x)
        ffs.append(ff)
    return layers, ffs
