#!/usr/bin/env bash
# The TPU compiler (libtpu 0.0.42.1 with jax 0.10.2 on Python 3.11, 0.0.50.1 with 0.12.0.1 on later ones), without a TPU:
# the estimate of time in cost_analysis().
#
# One would guess that "optimal_seconds" of a compiled program is a time, so not below zero, and that a larger program
# of the same kind has a larger one.
#
# Seen: each custom call counts as minus one second, on top of microseconds for the rest. A matrix product has a small
# positive estimate. Cholesky of 64 x 64 is one custom call, -1 s; of 512 x 512 it is seven, -7 s. Draws of the random
# generator rbg are one, too; those of the default generator are none.
#
# What to do: add one second for each custom call in the program's text. What the calls themselves take is then missing from
# the estimate.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
if python3 -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then pin="jax[tpu]==0.10.2 jaxlib==0.10.2 libtpu==0.0.42.1"; else pin="jax[tpu]==0.12.0.1 jaxlib==0.12.0.1 libtpu==0.0.50.1"; fi
# shellcheck disable=SC2086
"$work/venv/bin/pip" install --quiet --disable-pip-version-check $pin numpy==2.4.6

cat >"$work/estimate.py" <<'PY'
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

slice_ = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4")
everywhere = NamedSharding(Mesh(np.array(slice_.devices), "data"), PartitionSpec())


def estimate(function, shape, dtype=jnp.float32):
    """Seconds, and the number of custom calls."""
    compiled = jax.jit(function).lower(jax.ShapeDtypeStruct(shape, dtype, sharding=everywhere)).compile()
    analysis = compiled.cost_analysis()
    return analysis["optimal_seconds"], compiled.as_text().count("custom_call_target=")


def draws(generator):
    return lambda key: jax.random.normal(jax.random.wrap_key_data(key, impl=generator), (1024, 1024))


found = {
    "product, 512": estimate(lambda x: x @ x.T, (512, 512)),
    "Cholesky, 64": estimate(jnp.linalg.cholesky, (64, 64)),
    "Cholesky, 256": estimate(jnp.linalg.cholesky, (256, 256)),
    "Cholesky, 512": estimate(jnp.linalg.cholesky, (512, 512)),
    "draws, threefry": estimate(draws("threefry2x32"), (2,), jnp.uint32),
    "draws, rbg": estimate(draws("rbg"), (4,), jnp.uint32),
}
print("jax", jax.__version__, "|", slice_.devices[0].device_kind)
for name, (seconds, calls) in found.items():
    print(f"{name}: {seconds:.6f} s, {calls} custom calls")
    assert 0 < seconds + calls < 1e-3, f"{name}: a custom call is no longer minus one second"
assert [calls for _, calls in found.values()] == [0, 1, 3, 7, 0, 1]
print("seen: each custom call counts as minus one second")
PY
TPU_SKIP_MDS_QUERY=1 JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/estimate.py"
