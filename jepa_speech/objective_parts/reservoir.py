"""A sample of recent frames in the auxiliary state, which is the same for any number of devices and micro-batches.

Each row offers some of its frames, each to a slot, all drawn from the row's key. The sums of a batch hold, for each
slot, how many frames it was offered and their sum. A slot that was offered exactly one frame takes it, so every slot
holds one real frame. A step fills one window of slots, which keeps the sums small.
"""

import jax
import jax.numpy as jnp

from jepa_speech.objective_parts.contract import Tree

OFFERS = 8  # frames that a row offers, at most
WINDOW = 1024  # slots that a step may fill; with as many offers, a third of them get exactly one


def empty(layers: int, size: int, width: int) -> Tree:
    """frames (L, R, D), of the same time in every layer, and filled (R,), 1 where a slot holds a frame."""
    return {"frames": jnp.zeros((layers, size, width)), "filled": jnp.zeros(size)}


def offered(
    keys: jax.Array, layers: list[jax.Array], frame_lengths: jax.Array, weight: jax.Array, size: int, rows: float
) -> Tree:
    """The sums of a batch: counts (W,) and frames (L, W, D) of the slots of a window.

    layers [(B, T, D)], frame_lengths (B,), weight (B,) 0 for filler rows · size: R, of the reservoir · rows: of the
    largest batch. With many rows, each offer is dropped with the probability that leaves about as many as slots: of
    many more, nearly all slots would get several.
    """
    slots = min(WINDOW, size)
    draws = jax.vmap(lambda key: jax.random.uniform(key, (3, OFFERS)))(keys)  # (B, 3, C)
    kept = weight[:, None] * (draws[:, 2] * OFFERS * rows < slots)  # (B, C)
    times = jnp.floor(draws[:, 0] * frame_lengths[:, None]).astype(int)  # (B, C)
    chosen = jax.nn.one_hot(jnp.floor(draws[:, 1] * slots).astype(int), slots) * kept[..., None]  # (B, C, W)
    frames = jnp.stack([jnp.take_along_axis(x, times[..., None], axis=1) for x in layers]).astype(jnp.float32)
    frames = jax.lax.stop_gradient(frames)  # (L, B, C, D)
    return {
        "counts": chosen.sum((0, 1)),
        "frames": jnp.einsum("bcw,lbcd->lwd", chosen, frames, precision="highest"),
    }


def refilled(reservoir: Tree, offer: Tree, step: jax.Array) -> Tree:
    """The reservoir after a step's offer. Step by step, the windows cover all slots in turn."""
    size, slots = len(reservoir["filled"]), len(offer["counts"])
    # The last window ends with the last slot, and so may overlap the one before.
    start = jnp.minimum(step % -(-size // slots) * slots, size - slots)
    taken = offer["counts"] == 1

    def replace(held: jax.Array, new: jax.Array, axis: int) -> jax.Array:
        window = jax.lax.dynamic_slice_in_dim(held, start, slots, axis)
        mask = taken if new.ndim == 1 else taken[:, None]
        return jax.lax.dynamic_update_slice_in_dim(held, jnp.where(mask, new, window), start, axis)

    return {
        "frames": replace(reservoir["frames"], offer["frames"], 1),
        "filled": replace(reservoir["filled"], jnp.ones(slots), 0),
    }
