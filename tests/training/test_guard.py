"""A step that is not finite, on many devices and processes: all skip it together, and its records are named."""

import json

import jax
import numpy as np
import pytest
from training.toy import ToyObjective, toy_batches, toy_config, train

from jepa_speech.config import from_section
from jepa_speech.errors import UserError
from jepa_speech.training.checkpoint import read_weights
from jepa_speech.training.metrics import RunLog
from jepa_speech.training.optim import OptimConfig, make_optimizer
from jepa_speech.training.sentinel import Sentinel
from jepa_speech.training.sharding import MeshConfig, make_mesh, place_batch
from jepa_speech.training.state import abstract_state, init_state
from jepa_speech.training.step import make_step

COUNTERS = {"step", "skipped", "skipped_in_row"}


def shards(state) -> dict[str, list[np.ndarray]]:
    """Every device's own piece of every leaf."""
    return {
        jax.tree_util.keystr(path): [np.asarray(shard.data) for shard in leaf.addressable_shards]
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def test_nan_on_one_of_four_devices_is_skipped_by_all():
    config, objective = toy_config(), ToyObjective()
    config["data"]["buckets"] = (0.3,)
    mesh = make_mesh(MeshConfig(2, 2))
    optimizer = make_optimizer(from_section(OptimConfig, config["optim"], "optim"))
    abstract = abstract_state(objective, optimizer, 1, mesh)
    shardings = jax.tree.map(lambda s: s.sharding, abstract)
    step = jax.jit(make_step(objective, optimizer, lambda _: 0.01, lambda _: True), out_shardings=(shardings, None))
    good, bad, after = list(toy_batches(config, rows_multiple=4)(0, 3))
    bad["audio"] = bad["audio"].copy()
    bad["audio"][-1, 0] = np.nan  # a row of the last device alone
    placed = place_batch(mesh, bad)
    hit = [bool(np.isnan(np.asarray(shard.data)).any()) for shard in placed["audio"].addressable_shards]
    assert hit == [False, False, False, True]

    state, _ = step(init_state(objective, optimizer, 1, abstract), place_batch(mesh, good))
    skipped, metrics = step(state, placed)
    before, now = shards(state), shards(skipped)
    for path, pieces in before.items():
        if path.lstrip(".") in COUNTERS:
            assert {int(piece) for piece in now[path]} == {int(pieces[0]) + 1}, path
        else:
            for a, b in zip(pieces, now[path], strict=True):
                np.testing.assert_array_equal(a, b, err_msg=path)
    assert metrics["skipped_in_row"] == 1 and not np.isfinite(metrics["loss"])
    moved, metrics = step(skipped, place_batch(mesh, after))
    assert metrics["skipped_in_row"] == 0 and int(moved.skipped) == 1 and np.isfinite(metrics["loss"])


def test_each_process_names_the_records_that_it_holds(tmp_path):
    for process, records in ((0, [3, 4]), (1, [5, 6])):
        log = RunLog(tmp_path, 0, process)
        batch = {"record_id": np.array(records), "weight": np.array([1.0, 0.0])}
        Sentinel(3, "warn", log, print).finite(7, 1, batch)
        log.row(7, {"loss": 1.0})
        log.close()
    held = [json.loads((tmp_path / name).read_text())["records"] for name in ("events.jsonl", "events-1.jsonl")]
    assert held == [[3], [5]]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1  # process 0 alone wrote its row


@pytest.mark.parametrize("skipped", [6, 7])
def test_a_run_that_skipped_more_than_half_of_its_steps_does_not_end_as_done(tmp_path, skipped):
    """Never three in a row, so nothing stopped it before; its checkpoint stays, and starting it again says so again."""
    bad = {0, 1, 3, 4, 6, 7, 9}

    def batches(start, stop):
        for i, batch in enumerate(toy_batches(config)(start, stop), start):
            yield batch | ({"audio": np.full_like(batch["audio"], np.nan)} if i in sorted(bad)[:skipped] else {})

    config = toy_config()
    if skipped == 6:
        assert train(config, ToyObjective(), batches, tmp_path)["step"] == 12
        return
    for _ in range(2):
        with pytest.raises(UserError, match=r"^7 of 12 steps skipped, .* the checkpoint stays, but do not use it"):
            train(config, ToyObjective(), batches, tmp_path)
    assert read_weights(tmp_path)[0] == 12 and '"done"' not in (tmp_path / "events.jsonl").read_text()
