"""benchmarks/during_training.py: what a probe costs, from a ledger with a known answer."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "during_training.py"


def test_the_cost_of_probes_from_a_known_ledger():
    """Steps of 0.1 s, then of 0.2 s on a busier machine, where a probe takes twice as long: always ten steps."""
    spec = importlib.util.spec_from_file_location("during_training", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    events = [{"event": "compile", "step": 1}]
    for number, step in enumerate((0.1, 0.1, 0.2, 0.2)):
        waits = {"data_wait": 0.5, "compile": 0.0, "evaluation": 0.0, "checkpoint": 0.3}
        probe = 10 * step if number else 7.0  # the first compiles
        events.append(
            {"event": "steps", "after": 50 * number, "to": 50 * number + 25, "seconds": 25 * step, "probe": 0.0}
        )
        events.append({"event": "steps", "after": 50 * number + 25, "to": 50 * (number + 1), "probe": probe})
        events[-2] |= dict.fromkeys(waits, 0.0)
        events[-1] |= waits | {"seconds": 25 * step + probe + 0.8}
    seconds, relative = script.in_steps(events)
    assert seconds == [1.0, 2.0, 2.0] and relative == pytest.approx([10, 10, 10])
    rows = dict(script.table(seconds, relative)[1:])
    assert rows["seconds of a probe"] == "1.67 [0.23, 3.10]"  # t of 2 degrees of freedom: 4.303 x 0.577 / sqrt(3)
    assert rows["share of the time of a run, `train.probe_every` = 200"] == "4.8% [4.8%, 4.8%]"


def test_the_picture_of_the_docs_is_small():
    assert 5_000 < (ROOT / "docs" / "probes.png").stat().st_size < 60_000
