"""Work of a step counted by hand, its batch, the search for the largest batch, rates in a run."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import toys
from support.toys import build
from training.test_step import rows as rows_of_file
from training.toy import ToyObjective, toy_batches, toy_config, train

from jepa_speech.batches.batch_plan import Plan
from jepa_speech.costs import batch_autotune, speed
from jepa_speech.costs.synthetic import abstract_batch, filled_in, noise_batch
from jepa_speech.errors import UsageError
from jepa_speech.objective_parts.contract import Term
from jepa_speech.text.vocabulary import FIRST
from jepa_speech.training import loop, metrics
from jepa_speech.training.chips import CHIPS, KINDS, chip_of
from jepa_speech.training.compiled import Cost, product_flops
from jepa_speech.training.optim import OptimConfig, make_optimizer
from jepa_speech.training.state import make_state
from jepa_speech.training.step import make_step

ROWS, SAMPLES, FRAMES = 4, 32_080, 100
WIDTH, HIDDEN, BLOCKS, UNITS, PROJECTION = 64, 128, 3, toys.K, 8


def dense(m: int, k: int, n: int) -> int:
    """(m, k) @ (k, n)."""
    return 2 * m * k * n


def hubert_by_hand() -> tuple[int, int]:
    """A step of a toy HuBERT on log-mel, and the blocks' forward pass alone: each product, written out."""
    frames = ROWS * FRAMES
    block = dense(frames, WIDTH, 3 * WIDTH)  # queries, keys, values
    block += 2 * dense(frames, WIDTH, FRAMES)  # scores of all heads, and the mean of values
    block += dense(frames, WIDTH, WIDTH) + 2 * dense(frames, WIDTH, HIDDEN)  # out; up and down
    local = dense(frames, WIDTH, 2 * WIDTH) + dense(frames, WIDTH, WIDTH)  # gate, out; the taps are sums of shifts
    head = dense(frames, WIDTH, PROJECTION) + dense(frames, PROJECTION, UNITS)
    bands = dense(frames, 201, 80)
    figures = dense(WIDTH, frames, WIDTH) + dense(1, frames, WIDTH) + dense(1, frames, UNITS)  # moments, usage
    # The backward pass has two products for each: its input's gradient and its weight's. Features get no gradient.
    return 3 * (BLOCKS * block + local + head) + 2 * dense(frames, 80, WIDTH) + bands + figures, BLOCKS * block


def counted(**encoder: bool) -> tuple[int, int, float]:
    """Of the same step: all of it, without what is done twice, and XLA's figure before it optimises."""
    shape = {"width": WIDTH, "hidden": HIDDEN, "blocks": BLOCKS}
    setting = speed.make_setting(toys.typed(toys.toy_objective("hubert", encoder=shape | encoder)))
    assert setting.config.objective.projection == PROJECTION and setting.config.encoder.frontend == "logmel"
    traced = setting.step.trace(setting.state, setting.batch(ROWS, SAMPLES))
    every, once = (product_flops(traced.jaxpr.jaxpr, once) for once in (False, True))
    return every, once, traced.lower().cost_analysis()["flops"]


def test_a_step_is_counted_as_by_hand_and_nearly_as_by_xla():
    whole, _ = hubert_by_hand()
    every, once, by_xla = counted()
    assert every == once == whole
    assert 1 < by_xla / whole < 1.12  # which counts what is elementwise, too


def test_what_remat_computes_again_is_no_work_of_the_model():
    whole, blocks = hubert_by_hand()
    every, once, _ = counted(remat=True, scan=True)
    # All of a block is computed again but its last product, whose result no gradient needs.
    assert every - once == blocks - BLOCKS * dense(ROWS * FRAMES, HIDDEN, WIDTH)
    assert once == whole


class Curved(ToyObjective):
    """A term that is no mean: its value over all micro-batches is needed before any gradient."""

    def loss(self, params, aux_state, batch, key, step):
        terms, stats = super().loss(params, aux_state, batch, key, step)
        hidden = jnp.stack([batch["level"], batch["weight"]], 1) @ params["in"]["kernel"]
        return terms | {"curved": Term(hidden.sum(0), batch["weight"].sum(), 1.0, lambda m: (m**2).sum())}, stats


def test_a_first_pass_over_micro_batches_is_no_work_of_the_model():
    optimizer = make_optimizer(OptimConfig())
    state = jax.eval_shape(lambda: make_state(Curved(), optimizer, 0))
    batch = abstract_batch(toys.typed(toys.toy_config(anchor={"top_k": 1})), Curved(), 8, 800)

    def counts(accumulate: int) -> list[int]:
        step = make_step(Curved(), optimizer, lambda _: 1.0, lambda _: False, accumulate)
        jaxpr = jax.make_jaxpr(step)(state, batch).jaxpr
        return [product_flops(jaxpr, once) for once in (False, True)]

    every, once = counts(2)
    # The term's matrix product again; and its gradient's vector product with the mean, of width 8, in each of two.
    assert counts(1)[0] == counts(1)[1]
    assert every - once == dense(8, 2, 8)
    assert once == counts(1)[1] + 2 * 2 * 8


@pytest.mark.parametrize("name", ["gmm_jepa", "pase", "ctc"])
def test_noise_is_a_valid_batch(name):
    config = toys.toy_objective(name)
    if name == "ctc":
        config.objective.characters = ""
    config.anchor.update(components=0, features="", normalize="")
    config = filled_in(toys.typed(config))
    objective = build(config)
    batch, shapes = noise_batch(config, objective, 3, 16_080), abstract_batch(config, objective, 3, 16_080)
    assert {key: (x.shape, x.dtype) for key, x in batch.items()} == {
        key: (s.shape, s.dtype) for key, s in shapes.items()
    }
    assert len(set(batch["record_id"])) == 3 and (batch["weight"] == 1).all() and (batch["lengths"] == 16_080).all()
    assert batch["audio"].std() == pytest.approx(batch["level"][0], rel=0.02)
    if name == "gmm_jepa":
        ids, probs = batch["anchor_ids"], batch["anchor_probs"]
        assert ids.min() >= 0 and ids.max() < 1024 and (np.diff(np.sort(ids, -1)) > 0).all()
        assert probs.min() > 0 and probs.sum(-1) == pytest.approx(0.9) and (np.diff(probs) <= 0).all()
    if name == "ctc":
        written = np.arange(batch["text_ids"].shape[1]) < batch["text_lengths"][:, None]
        assert (batch["text_ids"][written] >= FIRST).all() and not batch["text_ids"][~written].any()
        assert batch["text_ids"].max() < FIRST + len(config.objective.characters)


@pytest.mark.parametrize("peak", [lambda n: 100 + 7 * n, lambda n: 50 + n**1.5, lambda n: math.inf if n > 90 else 1])
@pytest.mark.parametrize("start", [1, 4, 64, 5000])
@pytest.mark.parametrize("limit", [99, 130, 1e4])
def test_the_most_rows_that_fit(peak, start, limit):
    asked = []

    def told(rows):
        asked.append(rows)
        return peak(rows)

    best = max((n for n in range(0, 4000, 4) if n == 0 or peak(n) <= limit), default=0)
    assert batch_autotune.largest(told, limit, start, 4) == best
    assert len(asked) == len(set(asked)) <= 14 and all(rows % 4 == 0 < rows for rows in asked)


@pytest.mark.parametrize("rows", [{0.2: 3, 0.9: 4}, {15.6: 7}, {5.0: 96, 10.0: 40, 15.0: 24}, {0.3: 12, 0.1: 40}])
def test_training_takes_as_many_rows_as_fit(rows):
    plan = Plan(np.full(3, 1000), list(rows), batch_autotune.batch_seconds(rows), 0)
    taken = dict(zip(sorted(rows), plan.rows.tolist(), strict=True))
    assert all(taken[seconds] <= rows[seconds] for seconds in rows)
    least = min(rows, key=lambda seconds: seconds * rows[seconds])
    assert taken[least] == rows[least]


@pytest.fixture
def small(monkeypatch):
    """What the compiler says: 10 MB a row, and no fewer than 4 at a time."""

    class Small:
        multiple = 4

        def compile(self, rows, samples):
            return None, Cost(int(1e7) * rows, 0, 0, 0, 1, None, 1.0)

        def batch(self, rows, samples):
            return {}

    monkeypatch.setattr(batch_autotune, "make_setting", lambda config: Small())
    monkeypatch.setattr(batch_autotune, "crop_samples", lambda setting, seconds: 16_000)
    monkeypatch.setattr(batch_autotune, "rows_of", lambda setting, seconds: 8)


def test_rows_that_compile_but_do_not_run_are_stepped_down_from(small, monkeypatch):
    tried = []

    def measured(config, rows, *how):
        tried.append(rows)
        if rows > 84:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 byte.")
        return {"rows": rows, "seconds": 1.0}

    monkeypatch.setattr(batch_autotune, "measure_step", measured)
    found = batch_autotune.fill_memory({}, 1.0, memory=1e9)
    assert tried == [92, 88, 84] and found["rows"] == 84 and found["compiled_rows"] == 92  # 0.95 of it: 950 MB
    with pytest.raises(UsageError, match=r"not even 4 rows of 1 s fit into 0\.04 GB per device"):
        batch_autotune.fill_memory({}, 1.0, memory=4e7)


def test_only_a_want_of_memory_is_caught(small, monkeypatch):
    assert batch_autotune.unless_out_of_memory(lambda: jnp.zeros(2**56, jnp.int8)) is None  # too many addresses

    def broken(*arguments):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(batch_autotune, "measure_step", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        batch_autotune.fill_memory({}, 1.0, memory=1e9)


def test_every_kind_is_a_chip():
    assert set(KINDS.values()) == set(CHIPS)
    assert chip_of("NVIDIA H200") is CHIPS["h200"] and chip_of("cpu") is None
    assert chip_of("NVIDIA H100 PCIe") is None is chip_of("NVIDIA H100 80GB HBM3 MIG 1g.10gb")  # slower ones


def test_rates_by_a_known_clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(metrics.time, "monotonic", lambda: now[0])
    rates = metrics.Rates(4, CHIPS["v5e"])
    rates.add((0.2, 0.5), 30.0, 10**14)
    rates.add((0.0, 0.0), 50.0, 10**14)
    now[0] = 102.0
    found = {"audio_seconds_per_second": 40.0, "audio_hours_per_device_hour": 10.0, "data_wait_share": 0.25}
    found["fetch_wait_share"] = 0.1
    assert rates.look() == found | {"flops_per_second": 10**14, "mfu": round(1e14 / (4 * 197e12), 4)}
    rates.restart()
    now[0] = 103.0
    assert set(rates.look().values()) == {0}
    assert "mfu" not in metrics.Rates(1, None).look()


@pytest.mark.parametrize("kind", [None, "h100"])
def test_a_run_tells_its_rates_beside_its_metrics(tmp_path, monkeypatch, kind):
    """Each batch counted as 5 s: then work and audio have a ratio that time does not change."""
    monkeypatch.setattr(loop, "audio_seconds", lambda batch: 5.0)
    monkeypatch.setattr(loop, "chip_of", lambda name: CHIPS.get(kind))
    config = toy_config()
    config["data"]["buckets"] = (0.3,)
    train(config, ToyObjective(), toy_batches(config), tmp_path)
    (compiled,) = [event for event in rows_of_file(tmp_path, "events") if event["event"] == "compile"]
    told = [event for event in rows_of_file(tmp_path, "events") if event["event"] == "rates"]
    assert len(told) == 5 and compiled["flops_again"] == 0 < compiled["flops"]
    for event in told:
        work = compiled["flops"] / 5.0 * event["audio_seconds_per_second"]
        assert event["flops_per_second"] == pytest.approx(work, rel=0.01, abs=1)
        hours = event["audio_seconds_per_second"] / jax.device_count()
        assert event["audio_hours_per_device_hour"] == pytest.approx(hours, abs=0.011)
        assert ("mfu" in event) == bool(kind)
    known = {"step", "epoch", "loss", "level", "size", "grad_norm", "learning_rate", "skipped", "skipped_in_row"}
    assert set().union(*rows_of_file(tmp_path, "metrics")) == known | {"hidden_mean"}
