#!/usr/bin/env bash
# XLA's CPU compiler (jaxlib 0.10.2 on Python 3.11, 0.12.0.1 on later ones): the sum of a product with a constant matrix.
#
# One would guess that sum(x @ ones) has the same value whether the matrix of ones is made inside the compiled function
# or passed to it, and whether it has 32 columns or 400.
#
# Seen: with a constant 400 x 400 matrix of ones, the compiled sum is NaN or at least of the order of 1e31, the same at each
# call. A jax array that the function closes over is also such a constant. The sum is right without jit, with the matrix as
# an argument, with 32 columns, or with a constant matrix of random numbers. In the optimised program, the product and the
# sum are one fusion of the kind __ynn_fusion.
#
# What to do: pass weights to compiled functions as arguments, as jepa_speech does everywhere.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
if python3 -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then pin="jax==0.10.2 jaxlib==0.10.2"; else pin="jax==0.12.0.1 jaxlib==0.12.0.1"; fi
# shellcheck disable=SC2086
"$work/venv/bin/pip" install --quiet --disable-pip-version-check $pin numpy==2.4.6

cat >"$work/product.py" <<'PY'
import jax
import jax.numpy as jnp
import numpy as np

random = np.random.default_rng(0)
x = jnp.asarray(random.normal(size=(100, 400)), jnp.float32)
ones, other = jnp.ones((400, 400)), jnp.asarray(random.normal(size=(400, 400)), jnp.float32)


def far(found, true):
    """Whether `found` differs from `true` by more than rounding."""
    return not abs(float(found) - true) < 1e-3 * abs(true)


true = float(np.asarray(x, np.float64).sum() * 400)
inside = jax.jit(lambda x: (x @ jnp.ones((400, 400))).sum())
closed_over = jax.jit(lambda x: (x @ ones).sum())
argument = jax.jit(lambda x, w: (x @ w).sum())
narrow = jax.jit(lambda x: (x[:, :32] @ jnp.ones((32, 32))).sum())
varied = jax.jit(lambda x: (x @ other).sum())

print("jax", jax.__version__)
print("true sum", true, "| without jit", (x @ ones).sum(), "| as an argument", argument(x, ones))
print("made inside", inside(x), "| closed over", closed_over(x))
assert far(inside(x), true) and far(closed_over(x), true), "constants of one value now give the right sum"
assert not far((x @ ones).sum(), true) and not far(argument(x, ones), true)
assert not far(narrow(x), float(np.asarray(x[:, :32], np.float64).sum() * 32))
assert not far(varied(x), float((np.asarray(x, np.float64) @ np.asarray(other, np.float64)).sum()))
assert "__ynn_fusion" in inside.lower(x).compile().as_text()
print("seen: the compiled sum with a constant matrix of one value is wrong")
PY
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/product.py"
