"""A run that collapses on purpose is told, or stopped in time; a healthy one is left alone."""

from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import pytest
from training.test_step import rows
from training.toy import ToyObjective, toy_batches, toy_config, train

from jepa_speech.errors import UserError
from jepa_speech.objective_parts.collapse import HEALTHY, collapsed, masked_moments, variance
from jepa_speech.training.checkpoint import read_weights


@dataclass(frozen=True)
class Mortal(ToyObjective):
    """From update `dies_after + 1` on it maps every row to one vector."""

    dies_after: int = 1000

    def loss(self, params, aux_state, batch, key, step):
        terms, stats = super().loss(params, aux_state, batch, key, step)
        gain = jnp.where(step < self.dies_after, 1.0, 0.0)
        mapped = gain * batch["level"][:, None] * params["in"]["kernel"][0]  # (B, D)
        return terms, stats | {"mapped": masked_moments(mapped[:, None], batch["weight"][:, None])}

    def report(self, stats):
        return {"prediction_variance": variance(stats["mapped"])}


def run(workdir: Path, objective: Mortal, **changes: object) -> dict:
    config = toy_config(**{"steps": 18, **changes})
    config["data"] |= {"buckets": (0.3,), "batch_seconds": 2.4}  # rows enough for a variance
    return train(config, objective, toy_batches(config), workdir)


def test_a_collapse_stops_the_run_within_three_reports(tmp_path):
    """It dies after 6 updates; reports come every 3, so the third one that shows it is that of step 15."""
    with pytest.raises(UserError, match=r"prediction variance 0.0e\+00, healthy from 0.0001 on.* last at step 15") as e:
        run(tmp_path, Mortal(dies_after=6), collapse="stop")
    assert "\n" not in str(e.value) and "--config.train.collapse=warn" in str(e.value)
    assert read_weights(tmp_path)[0] == 12
    told = [(row["step"], row["in_row"]) for row in rows(tmp_path, "events") if row["event"] == "collapse"]
    assert told == [(9, 1), (12, 2), (15, 3)]
    with pytest.raises(UserError, match="3 reports in a row, last at step 15"):  # counted over attempts
        run(tmp_path, Mortal(dies_after=6), collapse="stop")
    assert run(tmp_path, Mortal(dies_after=6), collapse="warn")["step"] == 18


def test_a_healthy_run_does_not_trip_it(tmp_path):
    assert run(tmp_path, Mortal(), collapse="stop")["step"] == 18
    assert "collapse" not in {row["event"] for row in rows(tmp_path, "events")}


@pytest.mark.parametrize("name", HEALTHY)
def test_every_figure_has_its_range(name):
    least = HEALTHY[name][0]
    assert name.replace("_", " ") in collapsed({name: 0.9 * least})
    assert collapsed({name: 1.1 * least, "loss": 0.0}) == ""
    assert collapsed({name: None}) == collapsed({name: float("nan")}) == ""  # of a skipped step
