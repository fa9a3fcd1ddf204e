"""The step: micro-batches, devices, skipping, and how often it compiles."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training.toy import ToyObjective, toy_batches, toy_config, train

from jepa_speech.config import from_section
from jepa_speech.errors import UserError
from jepa_speech.settings.training import TrainConfig
from jepa_speech.training.optim import OptimConfig, learning_rate, make_optimizer
from jepa_speech.training.sharding import MeshConfig, array_sharding, make_mesh, place_batch
from jepa_speech.training.state import abstract_state, init_state, make_state
from jepa_speech.training.step import make_step, multiplier


def run_steps(mesh, count: int = 3, accumulate: int = 1) -> tuple[dict, list[dict]]:
    """Params and metrics of `count` steps of the toy on a mesh."""
    config = toy_config(accumulate=accumulate)
    config["data"]["buckets"] = (0.3,)
    objective, optim = ToyObjective(), from_section(OptimConfig, config["optim"], "optim")
    settings = from_section(TrainConfig, config["train"], "train")
    optimizer = make_optimizer(optim)
    abstract = abstract_state(objective, optimizer, 1, mesh)
    state = init_state(objective, optimizer, 1, abstract)
    step = jax.jit(
        make_step(objective, optimizer, learning_rate(optim, 12), settings.report_due, accumulate),
        donate_argnums=0,
        out_shardings=(jax.tree.map(lambda s: s.sharding, abstract), None),
    )
    rows = []
    for batch in toy_batches(config, rows_multiple=8)(0, count):
        state, metrics = step(state, place_batch(mesh, batch))
        rows.append(jax.device_get(metrics))
    return jax.device_get({"params": state.params, "slow": state.aux_state}), rows


def one_device():
    return jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("data", "fsdp"))


def close(a, b, rtol=1e-5) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6), a, b)


@pytest.fixture(scope="module")
def reference():
    return run_steps(one_device())


@pytest.mark.parametrize("accumulate", [2, 4])
def test_micro_batches_change_nothing(reference, accumulate):
    close(reference, run_steps(one_device(), accumulate=accumulate))


@pytest.mark.parametrize(("data", "fsdp"), [(4, 1), (2, 2), (1, 4)])
def test_devices_change_nothing(reference, data, fsdp):
    close(reference, run_steps(make_mesh(MeshConfig(data, fsdp)), accumulate=2 if fsdp == 2 else 1))


def test_parameters_are_split_over_fsdp():
    mesh = make_mesh(MeshConfig(2, 2))
    assert array_sharding(mesh, (2, 8)).spec == jax.P(None, "fsdp")
    assert array_sharding(mesh, (3, 5)).spec == jax.P()
    assert array_sharding(mesh, (8,)).spec == jax.P()
    optimizer = make_optimizer(OptimConfig())
    state = init_state(ToyObjective(), optimizer, 0, abstract_state(ToyObjective(), optimizer, 0, mesh))
    shard = state.opt_state[1].mu["in"]["kernel"].addressable_shards[0]
    assert shard.data.shape == (2, 4)


def test_learning_rate_schedules():
    def at(schedule, step):
        config = OptimConfig(learning_rate=2.0, warmup_steps=4, schedule=schedule)
        return float(learning_rate(config, 12)(np.int32(step)))

    assert [at("constant", s) for s in (0, 1, 3, 4, 11)] == [0.5, 1.0, 2.0, 2.0, 2.0]
    assert [at("linear", s) for s in (3, 4, 8, 12)] == [2.0, 2.0, 1.0, 0.0]
    assert at("cosine", 8) == pytest.approx(1.0) and at("cosine", 12) == pytest.approx(0, abs=1e-6)


def test_three_stages_and_inverse_square_root():
    """data2vec's and DinoSR's schedule: up, held, down to a hundredth; w2v-BERT's: peak * sqrt(warm-up / step)."""
    shared = {"learning_rate": 2.0, "warmup_steps": 10}
    stages = learning_rate(OptimConfig(**shared, hold_steps=40, schedule="exponential"), 150)
    for step, rate in ((0, 0.2), (4, 1.0), (9, 2.0), (50, 2.0), (100, 0.2), (150, 0.02), (400, 0.02)):
        np.testing.assert_allclose(stages(np.int32(step)), rate, rtol=1e-5)
    root = learning_rate(OptimConfig(**shared, schedule="inverse_sqrt"), 150)
    for number, rate in ((1, 0.2), (10, 2.0), (40, 1.0), (1000, 0.2)):  # the update's number, from 1
        np.testing.assert_allclose(root(np.int32(number - 1)), rate, rtol=1e-5)


def test_rates_freeze_a_part_and_no_other_that_begins_alike():
    """A part at rate 0 stays bit for bit, momentum and weight decay notwithstanding; `in` is not `inner`."""

    class Frozen(ToyObjective):
        def rates(self, step):
            return {"in": jnp.where(step < 1, 1.0, 0.0)}

    config = toy_config()
    config["data"]["buckets"] = (0.3,)
    objective, optimizer = Frozen(), make_optimizer(from_section(OptimConfig, config["optim"], "optim"))
    state = make_state(objective, optimizer, 1)
    step = jax.jit(make_step(objective, optimizer, lambda _: 0.01, lambda _: False))
    states = [state]
    for batch in toy_batches(config)(0, 3):
        states.append(step(states[-1], batch)[0])
    kernels = [np.asarray(s.params["in"]["kernel"]) for s in states]
    assert (kernels[1] != kernels[0]).any()  # step 0 still moves it
    np.testing.assert_array_equal(kernels[1], kernels[3])
    assert (np.asarray(states[3].params["out"]["kernel"]) != np.asarray(states[1].params["out"]["kernel"])).any()
    assert multiplier({"in": 0.0}, "inner/kernel") == 1
    assert multiplier({"in": 0.5, "in/kernel": 0.5}, "in/kernel") == 0.25


def test_decay_spares_vectors():
    optimizer = make_optimizer(OptimConfig(weight_decay=0.5, clip=0.0))
    params = {"kernel": np.ones((2, 2), np.float32), "bias": np.ones(2, np.float32)}
    updates, _ = optimizer.update(jax.tree.map(np.zeros_like, params), optimizer.init(params), params)
    assert (updates["kernel"] == 0.5).all() and (updates["bias"] == 0).all()


def poisoned(config: dict, steps: set[int]):
    """The toy's batches, with a NaN in those that lead to `steps`."""

    def batches(start, stop):
        for number, batch in enumerate(toy_batches(config)(start, stop), start + 1):
            if number in steps:
                batch["audio"][0, 0] = np.nan
            yield batch

    return batches


def rows(workdir: Path, name: str = "metrics") -> list[dict]:
    return [json.loads(line) for line in (workdir / f"{name}.jsonl").read_text().splitlines()]


def test_a_batch_that_is_not_finite_is_skipped_and_named(tmp_path):
    config = toy_config(steps=6)
    results = train(config, ToyObjective(), poisoned(config, {2, 3, 5}), tmp_path)
    assert [row["skipped_in_row"] for row in rows(tmp_path)] == [0, 1, 2, 0, 1, 0]
    assert rows(tmp_path)[1]["loss"] is None and results["skipped"] == 3
    assert np.isfinite(results["loss"])
    skips = [row for row in rows(tmp_path, "events") if row["event"] == "skip"]
    first = next(toy_batches(config)(1, 2))
    assert [row["step"] for row in skips] == [2, 3, 5]
    assert skips[0]["records"] == first["record_id"][first["weight"] > 0].tolist()


def test_too_many_in_a_row_end_the_run(tmp_path):
    config = toy_config(checkpoint_every=1)
    with pytest.raises(UserError, match="not finite 3 times in a row, last at step 6"):
        train(config, ToyObjective(), poisoned(config, {2, 4, 5, 6}), tmp_path)


def test_a_step_compiles_once_per_bucket(tmp_path):
    config = toy_config()
    results = train(config, ToyObjective(), toy_batches(config), tmp_path)
    assert results["compiled"] == len(config["data"]["buckets"])
