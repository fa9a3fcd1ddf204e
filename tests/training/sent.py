"""What a step on 8 devices sends and needs, as JSON: `python sent.py DATA,FSDP ...`; a toy of configs/gmm_jepa.py.

A process of its own, since the number of pretended devices is fixed once jax is awake.
"""

import json
import os
import sys
from pathlib import Path

os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}
sys.path.insert(0, str(Path(__file__).parents[1]))
from support.compile_fast import COMPILE_FAST

os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count=8 {COMPILE_FAST}"

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from support.toys import TOP, build, toy_config

from jepa_speech.costs.collectives import collectives
from jepa_speech.costs.step_on_paper import kept_bytes
from jepa_speech.features.grid import frames
from jepa_speech.training.compiled import compile_step
from jepa_speech.training.optim import OptimConfig, make_optimizer
from jepa_speech.training.sharding import MeshConfig, make_mesh, replicated
from jepa_speech.training.state import abstract_state
from jepa_speech.training.step import make_step

ROWS, SAMPLES = 16, 5200


def sizes(tree) -> dict[str, int]:
    """Bytes of float32 of all leaves, and of those that are split."""
    leaves = jax.tree.leaves(tree)
    split = [leaf for leaf in leaves if getattr(leaf, "sharding", None) and "fsdp" in leaf.sharding.spec]
    return {"all": sum(4 * leaf.size for leaf in leaves), "split": sum(4 * leaf.size for leaf in split)}


def main(name: str) -> dict:
    """Bytes of parameters, of what else is gathered, of sums over the batch; and of each kind of collective."""
    sections = {"width": 32, "frontend": "conv", "scan": True}  # logmel: XLA does not split an rfft, and gathers waves
    objective, optimizer = build(toy_config(encoder=sections)), make_optimizer(OptimConfig())
    mesh = make_mesh(MeshConfig(*map(int, name.split(","))))
    state = abstract_state(objective, optimizer, 0, mesh)
    shardings = jax.tree.map(lambda s: s.sharding, state)
    rows = NamedSharding(mesh, jax.P(("data", "fsdp")))
    shapes = {"audio": ((SAMPLES,), jnp.float32), "lengths": ((), jnp.int32), "level": ((), jnp.float32)}
    shapes |= {"record_id": ((), jnp.uint32), "epoch": ((), jnp.int32), "weight": ((), jnp.float32)}
    shapes |= {
        f"anchor_{part}": ((frames(SAMPLES), TOP), kind) for part, kind in (("ids", jnp.int32), ("probs", jnp.float32))
    }
    batch = {key: jax.ShapeDtypeStruct((ROWS, *shape), kind, sharding=rows) for key, (shape, kind) in shapes.items()}
    step = jax.jit(
        make_step(objective, optimizer, lambda _: 1e-3, lambda number: number % 50 == 0, shardings=shardings),
        donate_argnums=0,
        out_shardings=(shardings, replicated(mesh)),
    )
    _, stats = jax.eval_shape(objective.loss, state.params, state.aux_state, batch, state.key, state.step)
    sent: dict[str, dict[int, int]] = {}
    compiled, cost = compile_step(step, state, batch)
    for c in collectives(compiled.as_text()):
        assert not c.inside, c
        groups = sent.setdefault(c.kind, {})
        groups[c.group] = groups.get(c.group, 0) + c.times * c.payload
    bare = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype), (state, batch))
    one, two = (
        kept_bytes(
            objective, bare[0], {key: jax.ShapeDtypeStruct((n, *v.shape[1:]), v.dtype) for key, v in batch.items()}
        )
        for n in (1, 2)
    )
    return {
        "params": sizes(state.params),
        "slow": sizes(state.aux_state),
        "stats": sizes(stats),
        "sent": sent,
        "temporaries": [(two - one) * ROWS // 8, cost.temporaries],  # on paper, and as compiled
        "flops": [cost.flops, cost.flops_xla * 8],
    }


if __name__ == "__main__":
    print(json.dumps({name: main(name) for name in sys.argv[1:]}))
