"""Flax NNX modules as containers of parameters: a module becomes two pure functions over a plain dict."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
from flax import nnx

Params = dict[str, Any]


class Draws(nnx.RngStream):
    """The keys of an `nnx.RngStream`, counted in Python: its own count, an array, is most of what tracing a model's
    initial weights takes, and each start of a run traces them several times.
    """

    drawn = 0

    def __call__(self) -> jax.Array:
        key = jax.random.fold_in(self.key[...], self.drawn)
        self.drawn += 1
        return key


def draws(key: jax.Array) -> nnx.Rngs:
    """nnx.Rngs(key), and the same keys from it."""
    rngs = nnx.Rngs(key)
    rngs.default = Draws(rngs["default"].key.get_value(), tag="default")  # type: ignore[attr-defined]  # one by name
    return rngs


@dataclass(frozen=True)
class Pure:
    """`make(rngs)` builds a module; `init` gives its parameters, `apply` calls it with given ones.

    Merging happens while jax traces, so it costs nothing per step.
    """

    make: Callable[[nnx.Rngs], nnx.Module]

    @cached_property
    def graph(self) -> nnx.GraphDef:
        return nnx.split(nnx.eval_shape(lambda: self.make(draws(jax.random.key(0)))))[0]

    def init(self, key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(self.make(draws(key))))

    def apply(self, params: Params, *args: Any, **kwargs: Any) -> Any:
        return nnx.merge(self.graph, params)(*args, **kwargs)


class Encoded(NamedTuple):
    """The outputs of an encoder. Under jit, an output that is not used costs nothing."""

    z: jax.Array  # (B, T, D) the output
    layers: list[jax.Array]  # (B, T, D) each: the input of the first block, then each block's output; the last is z
    frame_lengths: jax.Array  # (B,)
    features: jax.Array  # (B, T, C) the front-end's normalised output; not masked, unless mask.fill = noise
    energy: jax.Array  # (B, T) mean square of the front-end's output before that normalisation, float32
    ff: list[jax.Array]  # (B, T, D) each: a block's (last) feed-forward, before the residual


@dataclass(frozen=True)
class PureEncoder(Pure):
    """An encoder, (wave, lengths, mask, keys) -> Encoded, and what is known of it before it runs.

    `frames` gives its frame count of a number of samples. An encoder that `packs` takes `packed`, a number of frames:
    its blocks then encode only the visible frames of a row, at most so many, at their own positions, and layers and
    feed-forwards are 0 at masked frames. It takes M masks and keys for each wave, side by side (M B rows); convolutions
    of the front-end and projection run once for all M, and every output has M B rows.
    """

    width: int
    features: int  # channels of Encoded.features
    frames: Callable[[Any], Any]
    frame_rate: float
    min_samples: int
    padding_exact: bool = True  # whether padding leaves valid frames unchanged
    packs: bool = False
    own_level: bool = False  # whether waves reach the encoder as recorded, and not standardised
