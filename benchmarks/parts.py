"""Processor time of a step of configs/smoke.py: its parts compiled alone, and the compiled step by operation.

    taskset -c 0 python benchmarks/parts.py hubert [--trace DIR]

Runs on one core, so that other programs hardly matter. The second half needs jax's profiler, which writes into DIR.
"""

import argparse
import gzip
import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rows import made

from jepa_speech.nn.blocks import Attention, ConvModule, FeedForward, TransformerBlock
from jepa_speech.nn.module import Pure
from jepa_speech.training.compiled import product_flops
from jepa_speech.training.step import total_loss

REPEATS, STEPS = 9, 5
F32 = jnp.dtype("float32")


def told(what: str, function: Callable[..., Any], *inputs: Any) -> None:
    """Processor time of the jitted function, and its products a second."""
    jitted, times = jax.jit(function), []
    flops = product_flops(jitted.trace(*inputs).jaxpr.jaxpr)
    for _ in range(REPEATS):
        began = time.process_time()
        jax.block_until_ready(jitted(*inputs))
        times.append(time.process_time() - began)
    spent = statistics.median(times)
    print(f"{what:<32}{1e3 * spent:8.1f} ms{flops / 1e9:8.2f} GFLOP{flops / spent / 1e9:8.1f} GFLOP/s", flush=True)


def parts(stepper: made.Stepper) -> None:
    objective, batch, key = stepper.objective, stepper.batch, jax.random.PRNGKey(0)
    params, aux_state = jax.jit(objective.init)(key)
    view = jax.jit(objective.view)(batch, key)

    def z(params: Any) -> jax.Array:
        return objective.encode(params, view.mixed, view.lengths, view.mask, None).z

    def loss(params: Any, aux_state: Any) -> jax.Array:
        return total_loss(objective.loss(params, aux_state, batch, key, 0)[0])

    told("masks", lambda key: objective.view(batch, key).mask, key)
    told("encoder", z, params)
    told("encoder, with gradient", jax.grad(lambda params: z(params).sum()), params)
    told("loss", loss, params, aux_state)
    told("loss, with gradient", jax.grad(loss), params, aux_state)
    x, inside = jax.random.normal(key, (*view.mask.shape, 128)), jnp.ones(view.mask.shape, bool)
    told("a product, 128 to 512", lambda x, w: x @ w, x.reshape(-1, 128), jnp.ones((128, 512)))
    for name, make, *rest in (
        ("convolution", lambda rngs: ConvModule(128, 15, F32, rngs), inside),
        ("attention", lambda rngs: Attention(128, 4, F32, rngs), inside),
        ("feed-forward", lambda rngs: FeedForward(128, 512, 0.0, jax.nn.gelu, F32, rngs), None),
        ("block", lambda rngs: TransformerBlock(128, 4, 512, 0.0, F32, rngs), inside),
    ):
        module = Pure(make)

        def out(params: Any, x: jax.Array, module: Pure = module, rest: Any = rest) -> jax.Array:
            return jax.tree.leaves(module.apply(params, x, *rest))[0]

        weights = module.init(key)
        told(name, out, weights, x)
        told(f"{name}, with gradient", jax.grad(lambda p, x, f=out: jnp.square(f(p, x)).sum(), (0, 1)), weights, x)


def operations(stepper: made.Stepper, folder: Path) -> Counter[str]:
    """ms a step by kind of operation, names without their numbers."""
    stepper.run()
    with jax.profiler.trace(str(folder), create_perfetto_trace=True):
        stepper.run(STEPS)
    newest = max(folder.rglob("perfetto_trace.json.gz"), key=lambda path: path.stat().st_mtime)
    events = json.loads(gzip.decompress(newest.read_bytes()))["traceEvents"]
    names = set(re.findall(r"^\s*(?:ROOT )?%?([\w.\-]+) = ", stepper.compiled.as_text(), re.M))
    kinds: Counter[str] = Counter()
    for event in events:
        if event.get("ph") == "X" and event["name"] in names:
            kinds[re.sub(r"[.\d]+$", "", event["name"])] += event["dur"] / 1e3 / STEPS
    return kinds


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("objective", help="a variant of configs/smoke.py that takes an anchor")
    options.add_argument("--trace", type=Path, metavar="DIR")
    args = options.parse_args()
    config, mixture = made.config_of(f"smoke.py:{args.objective}"), made.anchor(256)
    stepper = made.Stepper(config, made.batch(config, 4, 4.0, mixture), mixture)
    stepper.run()
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        stepper.run()
        times.append(time.process_time() - began)
    print(f"{'the whole step':<32}{1e3 * statistics.median(times):8.1f} ms{stepper.cost.flops / 1e9:8.2f} GFLOP")
    parts(stepper)
    if args.trace:
        kinds = operations(stepper, args.trace)
        print(f"\nby operation, {sum(kinds.values()):.0f} ms a step while it is traced:")
        for kind, spent in kinds.most_common(8):
            print(f"{kind:<32}{spent:8.1f} ms")


if __name__ == "__main__":
    main()
