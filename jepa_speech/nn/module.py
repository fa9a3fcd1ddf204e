"""Flax NNX modules as containers of parameters: a module becomes two pure functions over a plain dict."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
from flax import nnx

Params = dict[str, Any]


@dataclass(frozen=True)
class Pure:
    """`make(rngs)` builds a module; `init` gives its parameters, `apply` calls it with given ones.

    Merging happens while jax traces, so it costs nothing per step.
    """

    make: Callable[[nnx.Rngs], nnx.Module]

    @cached_property
    def graph(self) -> nnx.GraphDef:
        return nnx.split(nnx.eval_shape(lambda: self.make(nnx.Rngs(0))))[0]

    def init(self, key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(self.make(nnx.Rngs(key))))

    def apply(self, params: Params, *args: Any, **kwargs: Any) -> Any:
        return nnx.merge(self.graph, params)(*args, **kwargs)


@dataclass(frozen=True)
class System:
    """encoder(wave, lengths, mask, keys) -> z, layers, frame lengths; predictor(z, mask, frame lengths, keys);
    head(z, keys). `frames` gives the encoder's frame count of a number of samples.
    """

    encoder: Pure
    predictor: Pure
    head: Pure
    frames: Callable[[Any], Any]
    frame_rate: float
    min_samples: int
    padding_exact: bool = True  # whether padding leaves valid frames unchanged
