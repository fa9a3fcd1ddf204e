"""The step compiled ahead: its cost in words, work counted by hand, the cache."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from training.test_step import rows
from training.toy import ToyObjective, toy_batches, toy_config, train

from jepa_speech.training.compiled import GPU_OPTIONS, Cost, for_tpu, product_flops
from jepa_speech.training.state import drawn_by_kernel


def test_each_shape_is_compiled_once_and_told(tmp_path, capsys):
    config = toy_config()
    results = train(config, ToyObjective(), toy_batches(config), tmp_path)
    told = [row for row in rows(tmp_path, "events") if row["event"] == "compile"]
    assert results["compiled"] == len(told) == 2 and told[0]["shape"] != told[1]["shape"]
    for event in told:
        assert event["peak"] == event["arguments"] + event["outputs"] + event["temporaries"] - event["aliased"] > 0
        assert event["aliased"] > 0  # the state is donated
        batch, samples = event["shape"]
        # (B, 2) @ (2, 8) and (B, 8) @ (8,), each with its two gradients but for the batch's own.
        assert event["flops"] == 2 * batch * (2 * 8 * 2 + 8 * 3)
        assert event["audio_seconds"] == batch * samples / 16_000
    said = capsys.readouterr().err
    assert said.count("compiled for 4 x ") + said.count("compiled for 8 x ") == 2, said
    assert "GB a device (arguments " in said and "GFLOP a second of audio" in said


def work(function, *shapes: tuple[int, ...]) -> tuple[int, float]:
    """Our count, and XLA's of the program before it is optimised, which adds what is elementwise."""
    traced = jax.jit(function).trace(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))
    return product_flops(traced.jaxpr.jaxpr), traced.lower().cost_analysis().get("flops", 0)


def layers(x, weights, scan: bool):
    if scan:
        return jax.lax.scan(lambda x, w: (x @ w, None), x, weights)[0]
    for w in weights:
        x = x @ w
    return x


def test_products_are_counted_as_by_hand_and_by_xla():
    shapes = (32, 64), (3, 64, 64)
    product = 2 * 32 * 64 * 64
    assert work(lambda x, w: layers(x, w, scan=False), *shapes)[0] == 3 * product
    assert work(lambda x, w: layers(x, w, scan=True), *shapes)[0] == 3 * product  # where XLA counts one turn
    assert work(lambda x, w: (x, layers(x, w, scan=True))[0], *shapes)[0] == 0  # nobody uses it

    def loss(x, w):
        return jax.checkpoint(lambda x, w: layers(x, w, scan=False))(x, w).sum()

    ours, theirs = work(jax.value_and_grad(loss, (0, 1)), *shapes)
    assert ours == (3 + 2 + 6) * product  # forward, again but for the last, and two gradients
    assert ours == pytest.approx(theirs, rel=0.02)


@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_are_counted_as_by_hand_and_by_xla(stride):
    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (stride,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"))

    shapes, frames = ((4, 101, 16), (3, 16, 24)), 98 // stride + 1
    ours, theirs = work(convolve, *shapes)
    assert ours == 2 * 4 * frames * 24 * 3 * 16 == theirs
    ours, theirs = work(jax.grad(lambda *arguments: convolve(*arguments).sum(), (0, 1)), *shapes)
    # Taps beyond the ends, and a remainder of the stride, are products in our count alone.
    assert ours == pytest.approx(theirs, rel=0.06)


def test_only_the_dearest_branch_counts():
    def function(x):
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ x, lambda: x @ x @ x)

    assert work(function, (8, 8))[0] == 2 * 2 * 8**3


def test_a_cost_in_words():
    cost = Cost(10**9, 9 * 10**8, 2 * 10**9, 8 * 10**8, 3 * 10**12, None, 480.0)
    assert str(cost) == (
        "3.10 GB a device (arguments 1.00, temporaries 2.00), products of 3 TFLOP a step, 6.25 GFLOP a second of audio"
    )


CACHED = """
import sys, pathlib, jax
from jepa_speech.training.compiled import compilation_cache_of
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.jit(lambda x: x + 1)(1.0)  # before: the cache must take effect all the same
with compilation_cache_of(pathlib.Path(sys.argv[1])):
    jax.jit(lambda x: x * 3)(1.0)
jax.jit(lambda x: x * 5)(1.0)
"""


@pytest.mark.parametrize(("chosen", "devices"), [(None, 1), ("", 1), ("mine", 1), (None, 4)])
def test_what_is_compiled_is_kept_in_the_users_cache_unless_they_say_otherwise(tmp_path, chosen, devices):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "home")}
    environment.pop("JAX_COMPILATION_CACHE_DIR")
    if devices == 1:
        environment.pop("XLA_FLAGS")  # of pretended devices
    if chosen is not None:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / chosen) if chosen else ""
    subprocess.run([sys.executable, "-c", CACHED, str(tmp_path / "run")], env=environment, check=True)
    kept = [path.relative_to(tmp_path).parts for path in tmp_path.rglob("*-cache")]
    if chosen is None and devices == 1:
        assert len(kept) == 1 and kept[0][:3] == ("home", "jepa-speech", "compiled"), kept
    else:
        assert {parts[0] for parts in kept} == ({"mine"} if chosen else set()), kept
    assert not (tmp_path / "run").exists()


ONCE = """
import jax
from jepa_speech.training.compiled import compiled_once
limits = [jax.config.jax_persistent_cache_min_compile_time_secs]
with compiled_once():
    limits.append(jax.config.jax_persistent_cache_min_compile_time_secs)
limits.append(jax.config.jax_persistent_cache_min_compile_time_secs)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
with compiled_once():
    for _ in range(3):  # each a function of its own, as of one checkpoint after the other
        jax.jit(lambda x: x * 3)(1.0)
jax.jit(lambda x: x * 3)(1.0)
print(*limits, events.count("/jax/compilation_cache/cache_hits"))
"""


def test_checkpoints_of_one_architecture_are_compiled_once(tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    for name in ("JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS"):
        environment.pop(name)
    done = subprocess.run([sys.executable, "-c", ONCE], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == "1.0 0.1 1.0 2\n" and not any(tmp_path.iterdir())


def test_the_tests_load_no_program_from_a_cache():
    """Two pytest workers shared one of jax's and one of numba's, which a program of several devices must not."""
    assert len(jax.devices()) > 1 and not jax.config.jax_compilation_cache_dir
    assert os.environ["NUMBA_CACHE_DIR"].endswith(os.environ.get("PYTEST_XDIST_WORKER", "alone"))


def test_this_jax_knows_what_a_step_asks_of_a_gpu():
    """Backends share the names of their options, and refuse one that is unknown."""
    double = jax.jit(lambda x: 2 * x).lower(jnp.ones(3))
    assert double.compile(GPU_OPTIONS)(jnp.ones(3)).tolist() == [2, 2, 2]
    with pytest.raises(jax.errors.JaxRuntimeError, match="nonsense"):
        double.compile(GPU_OPTIONS | {"nonsense": 1})


def test_a_compiler_that_lacks_the_options_for_tpus_does_without_them():
    """A CPU's compiler has none of them."""
    double = jax.jit(lambda x: 2 * x).lower(jnp.ones(3))
    with pytest.warns(UserWarning, match="this libtpu refuses: .*xla_tpu_run_space_to_batch"):
        assert for_tpu(double)(jnp.ones(3)).tolist() == [2, 2, 2]


def test_initial_weights_are_drawn_by_a_kernel_on_one_gpu():
    """Lowered for a GPU, which need not be there: jax's own kernel, once for each shape, and the flag as it was."""

    def calls(wanted: bool) -> int:
        with drawn_by_kernel(wanted):
            traced = jax.jit(lambda key: jax.random.normal(key, (4, 3))).trace(jax.random.PRNGKey(0))
            return traced.lower(lowering_platforms=("cuda",)).as_text().count("threefry2x32_ffi")

    assert calls(False) == 0 and calls(True) > 0 and calls(False) == 0
