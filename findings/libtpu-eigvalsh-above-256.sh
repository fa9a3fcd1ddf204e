#!/usr/bin/env bash
# The TPU compiler (libtpu 0.0.42.1 with jax 0.10.2 on Python 3.11, 0.0.50.1 with 0.12.0.1 on later ones), without a TPU:
# eigenvalues of a symmetric matrix.
#
# One would guess that jnp.linalg.eigvalsh of a matrix with one more row compiles to about the same program.
#
# Seen: from 256 to 257 rows the compiled program grows from one custom call in some 110 to 140 lines to over 6,000 lines,
# and compiles for six seconds in place of one. It goes on growing: 512 rows took 103 s and 768 rows, the width of a Base
# encoder, 500 s on one busy core (libtpu 0.0.42.1; not run here). With implementation=JACOBI, jax.lax.linalg.eigh is the
# one custom call at any size, and compiles in 2.5 s at 768.
#
# What to do: inside a step for TPUs, ask for JACOBI. jepa_speech does for the effective rank, on TPUs alone; on a CPU
# jax refuses it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
if python3 -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then pin="jax[tpu]==0.10.2 jaxlib==0.10.2 libtpu==0.0.42.1"; else pin="jax[tpu]==0.12.0.1 jaxlib==0.12.0.1 libtpu==0.0.50.1"; fi
# shellcheck disable=SC2086
"$work/venv/bin/pip" install --quiet --disable-pip-version-check $pin numpy==2.4.6

cat >"$work/eigenvalues.py" <<'PY'
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.lax.linalg import EighImplementation, eigh
from jax.sharding import Mesh, NamedSharding, PartitionSpec

slice_ = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4")
everywhere = NamedSharding(Mesh(np.array(slice_.devices), "data"), PartitionSpec())


def program(function, size):
    """The lines of the compiled program."""
    lowered = jax.jit(function).lower(jax.ShapeDtypeStruct((size, size), jnp.float32, sharding=everywhere))
    began = time.monotonic()
    lines = lowered.compile().as_text().splitlines()
    print(f"{function.__name__}, {size}: {len(lines):,} lines, compiled in {time.monotonic() - began:.1f} s")
    return lines


def jacobi(x):
    return eigh(x, implementation=EighImplementation.JACOBI)[1]


print("jax", jax.__version__, "|", slice_.devices[0].device_kind)
small, larger = program(jnp.linalg.eigvalsh, 256), program(jnp.linalg.eigvalsh, 257)
rotations = program(jacobi, 257)
assert len(larger) > 20 * len(small), "one more row no longer makes a program of another kind"
assert len(rotations) < 2 * len(small)
assert sum("custom_call_target=" in line for line in rotations) == 1
print("seen: above 256 rows, eigvalsh is a program of thousands of lines")
PY
TPU_SKIP_MDS_QUERY=1 JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/eigenvalues.py"
