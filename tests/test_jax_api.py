"""What we use of jax and grain that is private, experimental, or to be removed: there, and as we call it.

Each file that uses such a name has a note with a date and the replacement. A failure here means that a new version has
removed or changed a name: fix the file that is named, or exclude that version in setup.py.
"""

import ast
import importlib
import inspect
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

ROOT = Path(__file__).parents[1]
PREFIXES = ("jax._src", "jax.experimental", "jax.interpreters", "jax.extend", "jax.lib", "grain._src")
# (module, name): the attributes of it that are used.
USED = {
    ("jax.experimental", "pallas"): "BlockSpec cdiv ds next_power_of_2 pallas_call program_id",
    ("jax.experimental.pallas", "triton"): "CompilerParams load store",
    ("jax.experimental", "multihost_utils"): "process_allgather reached_preemption_sync_point sync_global_devices",
    ("jax.experimental.custom_partitioning", "custom_partitioning"): "def_partition",
    ("jax.experimental", "topologies"): "get_topology_desc",
    ("jax.experimental.mesh_utils", "create_device_mesh"): "",
    ("jax.experimental.mesh_utils", "create_hybrid_device_mesh"): "",
    ("jax.experimental.compilation_cache", "compilation_cache"): "set_cache_dir reset_cache",
    ("jax.interpreters.partial_eval", "dce_jaxpr"): "",
    ("jax._src.clusters", "ClusterEnv"): "auto_detect_unset_distributed_params",
    ("jax._src.clusters", "cloud_tpu_cluster"): "",
    ("jax._src", "xla_bridge"): "_backends",
    ("grain._src.python.ipc.shared_memory_array", "SharedMemoryArray"): "_del_thread_pool close_shm_async",
}


def imports(path: Path) -> set[tuple[str, str]]:
    """(module, name) of what a file imports from the modules above."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {(node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
    return {(module, name) for module, name in found if f"{module}.".startswith(tuple(f"{p}." for p in PREFIXES))}


@pytest.mark.parametrize(("module", "name"), USED)
def test_a_name_is_there(module, name):
    found = getattr(importlib.import_module(module), name, None) or importlib.import_module(f"{module}.{name}")
    for attribute in USED[module, name].split():
        assert hasattr(found, attribute), f"{module}.{name}.{attribute} is gone: {__doc__}"


def test_every_such_name_is_listed_and_has_a_dated_note():
    listed = set()
    for path in sorted(ROOT.glob("jepa_speech/**/*.py")):
        if found := imports(path):
            listed |= found
            assert found <= USED.keys(), path
            assert "2026-11" in path.read_text(encoding="utf-8"), f"{path}: no dated note of {found}"
    for path in ROOT.glob("tests/**/*.py"):
        listed |= imports(path)
        assert imports(path) <= USED.keys(), path
    assert listed == USED.keys()  # and no line above is about a name that nothing uses


def test_the_options_and_results_that_we_count_on():
    from jax.experimental.custom_partitioning import custom_partitioning
    from jax.experimental.pallas import triton
    from jax.interpreters.partial_eval import dce_jaxpr

    assert triton.CompilerParams(num_warps=4, num_stages=2).num_warps == 4
    assert {"partition", "sharding_rule", "need_replication_factors"} <= inspect.signature(
        custom_partitioning.def_partition
    ).parameters.keys()
    jaxpr = jax.make_jaxpr(lambda a, b: (a + 1, b * 2))(1.0, jnp.ones(3)).jaxpr
    live, used = dce_jaxpr(jaxpr, [True, False])
    assert len(live.eqns) == 1 and used == [True, False]
    assert isinstance(jax.config.jax_threefry_gpu_kernel_lowering, bool)
    assert isinstance(jax.config.jax_persistent_cache_min_compile_time_secs, float)
    assert hasattr(jax.config, "jax_compilation_cache_dir")
