"""Attention by blocks of queries, the form for a TPU, against the plain one; and as TPU's own compiler makes it."""

import os
import re
import subprocess
import sys
from contextlib import AbstractContextManager

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_speech.nn.attention import BLOCK, attend
from jepa_speech.nn.row_random import valid
from jepa_speech.platform import as_written, written_for

ROWS, FRAMES, HEADS, CHANNELS = 2, 300, 2, 8
INSIDE = valid(jnp.array([FRAMES, 131]), FRAMES)
KEYS = jax.random.split(jax.random.PRNGKey(5), ROWS)
PARTS = jax.random.split(jax.random.PRNGKey(0), 7)
QUERY, KEY, VALUE, WEIGHT = (jax.random.normal(part, (ROWS, FRAMES, HEADS, CHANNELS)) for part in PARTS[:4])
WAVLM = {
    "bias": jax.random.normal(PARTS[4], (HEADS, FRAMES, FRAMES)),
    "gate": 1 + jax.random.normal(PARTS[5], (ROWS, HEADS, FRAMES)),
}
Form = AbstractContextManager[None]
ALIBI = {"added": jax.random.normal(PARTS[6], (ROWS, HEADS, FRAMES, FRAMES))}


def run(arrays: dict, keys: jax.Array | None, form: Form) -> tuple[jax.Array, dict]:
    """The output of attention in a form, and the gradient by each array of a weighted sum of it."""

    def loss(arrays: dict) -> tuple[jax.Array, jax.Array]:
        out = attend(inside=INSIDE, keys=keys, rate=0.3, **arrays)
        return (out.astype(jnp.float32) * WEIGHT).sum(), out

    with form:
        gradients, out = jax.jit(jax.grad(loss, has_aux=True))(arrays)
    return out, gradients


@pytest.mark.parametrize(
    ("more", "keys"), [({}, KEYS), (WAVLM, KEYS), (ALIBI, None)], ids=["dropout", "biased", "added, without dropout"]
)
def test_blocks_are_plain_attention(more: dict, keys: jax.Array | None) -> None:
    arrays = {"query": QUERY, "key": KEY, "value": VALUE} | more
    expected, got = (run(arrays, keys, form) for form in (as_written(), written_for("tpu")))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-5)


def test_blocks_add_their_gradients_of_keys_in_float32() -> None:
    """Eight blocks round as often as one does, and not after each addition."""
    parts = jax.random.split(jax.random.PRNGKey(1), 4)
    *halves, weight = (jax.random.normal(part, (1, 8 * BLOCK, 1, CHANNELS), jnp.bfloat16) for part in parts)

    def gradients(form: Form, query: jax.Array, key: jax.Array, value: jax.Array) -> list[np.ndarray]:
        def loss(key: jax.Array, value: jax.Array) -> jax.Array:
            out = attend(query, key, value, jnp.ones(query.shape[:2], bool))
            return (out.astype(jnp.float32) * weight).sum()

        with form:
            found = jax.jit(jax.grad(loss, argnums=(0, 1)))(key, value)
        return [np.array(x, np.float32) for x in found]

    exact = gradients(as_written(), *(x.astype(jnp.float32) for x in halves))
    plain, blocks = (gradients(form, *halves) for form in (as_written(), written_for("tpu")))
    for a, b, x in zip(blocks, plain, exact, strict=True):
        assert np.abs(a - x).mean() < 1.4 * np.abs(b - x).mean()  # in bfloat16, 1.7 times


def test_blocks_hold_no_weights_of_all_queries() -> None:
    def program(form: Form) -> str:
        with form:
            loss = jax.grad(lambda query: attend(query, KEY, VALUE, INSIDE, KEYS, 0.3).sum())
            return str(jax.make_jaxpr(loss)(QUERY))

    plain, blocks = program(as_written()), program(written_for("tpu"))
    assert f"{FRAMES},{FRAMES}]" in plain and f"{BLOCK},{FRAMES}]" not in plain
    assert f"{FRAMES},{FRAMES}]" not in blocks and f"{BLOCK},{FRAMES}]" in blocks


COMPILED = """
from jepa_speech.costs.speed import crop_samples, make_setting
from jepa_speech.costs.tpu_compiler import slice_devices
from jepa_speech.platform import written_for
from jepa_speech.training.configfile import run_config_of

config = run_config_of("tiny:wavlm", {"encoder.attention_dropout": 0.1})
setting = make_setting(config, slice_devices("v5e:2x4"))
with written_for("tpu"):
    traced = setting.step.trace(setting.state, setting.batch(32, crop_samples(setting, 5.2)))
print(traced.lower().compile().as_text())
"""


@pytest.mark.slow
def test_a_compiled_step_holds_no_weights_of_all_queries() -> None:
    """Of 260 frames, in three blocks, two axes of an array are queries and keys only in the bias (H, T, T)."""
    pytest.importorskip("libtpu", reason="libtpu, of the extra [tpu-plan], is not installed")
    without = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}  # of pretended devices
    text = subprocess.run(
        [sys.executable, "-c", COMPILED], check=True, env=without, stdout=subprocess.PIPE, text=True
    ).stdout
    shapes = {tuple(map(int, sizes.split(","))) for sizes in re.findall(r"[a-z]\d+\[([\d,]+)\]", text)}
    assert any(BLOCK in shape and 260 in shape for shape in shapes)
    whole = [shape for shape in shapes if sum(size in (260, 3 * BLOCK) for size in shape) > 1]
    assert all(np.prod(shape) <= 2 * (3 * BLOCK) ** 2 for shape in whole), whole  # 2 heads; of a device's 4 rows, one
