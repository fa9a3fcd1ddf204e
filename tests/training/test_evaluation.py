"""What is measured beside the steps: when, with which figures in which rows, and with no trace in the weights."""

import itertools

import jax
import numpy as np
import pytest
from training.test_resume import assert_same_run, final_state
from training.test_step import rows
from training.toy import ToyObjective, toy_batches, toy_config, train

from jepa_speech.errors import UsageError


class Killed(Exception):
    pass


def probe(params, aux_state):
    """A figure of the weights, which only the state of the right step has."""
    with jax.transfer_guard("allow"):
        return {"probe_size": float(abs(np.asarray(params["in"]["kernel"])).sum()), "probe_error": 0.5}


def toy_run(workdir, killed_before: int = 0, probe=probe, **changes):
    """Probes at 3, 6, 9, 11; checkpoints at 4, 8, 11."""
    config = toy_config(**({"steps": 11, "probe_every": 3, "keep": 9} | changes))
    inner = toy_batches(config)

    def read(start, stop):
        for i, batch in zip(itertools.count(start), inner(start, stop), strict=False):
            if i == killed_before > 0:
                raise Killed
            yield batch

    return train(config, ToyObjective(), read, workdir, probe=probe)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    toy_run(workdir)
    return workdir


def test_probes_stand_in_the_rows_of_their_steps(whole):
    found = {row["step"]: row["probe_size"] for row in rows(whole) if "probe_size" in row}
    assert list(found) == [3, 6, 9, 11]
    assert found[11] == pytest.approx(abs(final_state(whole)["params/in/kernel"]).sum(), rel=1e-6)
    seconds = [(event["to"], event["probe"]) for event in rows(whole, "events") if event["event"] == "steps"]
    assert [step for step, spent in seconds if spent > 0] == [3, 6, 9, 11]


def test_a_run_that_went_on_between_two_probes_is_the_same(whole, tmp_path):
    """Killed after the probe of step 6, and resumed from the checkpoint of step 4 or, in another run, of step 8."""
    for killed_before in (6, 10):
        with pytest.raises(Killed):
            toy_run(tmp_path / str(killed_before), killed_before)
        toy_run(tmp_path / str(killed_before))
        assert_same_run(whole, tmp_path / str(killed_before))


def test_weights_are_those_of_a_run_without_probes(whole, tmp_path):
    toy_run(tmp_path, probe=None, probe_every=0)
    ours, theirs = final_state(whole), final_state(tmp_path)
    for path in ours:
        np.testing.assert_array_equal(ours[path], theirs[path], err_msg=path)
    without = [{name: x for name, x in row.items() if not name.startswith("probe_")} for row in rows(whole)]
    assert without == rows(tmp_path)


def test_the_best_checkpoint_by_a_probe(tmp_path):
    sizes = iter([5.0, 1.0, 2.0, 4.0, 3.0, 6.0])  # at 2, 4, 6, 8, 10, 11

    def told(params, aux_state):
        return {"probe_error": next(sizes)}

    toy_run(tmp_path, probe=told, probe_every=2, best="probe_error", keep=1)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"4", "11"}
    with pytest.raises(UsageError, match=r"no such figure; there are .*probe_size"):
        toy_run(tmp_path / "other", probe_every=2, best="probe_none")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"probe_every": -1}, "train.probe_every = -1: 0 or more needed"),
        ({"best": "probe_error", "probe_every": 0}, r"set train.probe_every to 4 .* or to a divisor of it"),
        ({"best": "probe_error", "probe_every": 3}, "needs a probe at every checkpoint"),
    ],
)
def test_a_wrong_key_is_one_line(changes, line, tmp_path):
    with pytest.raises(UsageError, match=line):
        toy_run(tmp_path, **changes)
