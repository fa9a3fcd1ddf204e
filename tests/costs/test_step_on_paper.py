"""What a step costs on paper: it is counted without a device."""

import jax
import numpy as np
import pytest

from jepa_speech.batches.batch_plan import Plan
from jepa_speech.costs.step_on_paper import mean_step_flops
from jepa_speech.costs.synthetic import filled_in
from jepa_speech.objectives import build
from jepa_speech.training.configfile import load_config


def test_counting_asks_for_no_device(monkeypatch):
    """`compare` counts in a process of its own, while the commands that it starts need all of a GPU's memory."""
    monkeypatch.setattr(jax, "default_backend", lambda: pytest.fail("a backend is started"))
    config = filled_in(load_config("tiny"))
    plan = Plan(np.full(8, 16_000), config.data.buckets, config.data.batch_seconds, 0)
    assert mean_step_flops(config, build(config), plan) > 1e6
