"""A tiny labelled corpus with stand-ins for the checkpoints that are probed on it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.labelled_corpus import knowing, write_spoken

from jepa_speech.api import probed
from jepa_speech.probing import evaluate, phones, pooled
from jepa_speech.probing.linear import Recipe
from jepa_speech.training.checkpoint_steps import located


def probed_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A labelled corpus called DIR in the current folder; RUN stands for a run that knows the phones."""
    folder = write_spoken(tmp_path / "DIR")
    monkeypatch.chdir(tmp_path)
    short = Recipe(learning_rates=(3e-2,), decays=(0.0,), steps=60, batch=64)
    monkeypatch.setattr(phones, "RECIPE", short)
    monkeypatch.setitem(evaluate.TASKS, "speaker", replace(pooled.SPEAKER, RECIPE=short))

    def model(extract, step=0):
        return SimpleNamespace(
            config={},
            written={},
            params={"w": np.float32(step)},
            aux_state={},
            step=step,
            represent=lambda wave, rate: SimpleNamespace(layers=extract(wave, rate), frame_rate=50.0),
        )

    def load(run):
        """At step 100 RUN is untrained."""
        step = located(run)[1] or 300
        return model(knowing(folder, noise=step == 100), step)

    for step in (100, 200, 300):
        Path("RUN/checkpoints", f"{step}").mkdir(parents=True)
    monkeypatch.setattr(probed, "load_pretrained", load)
    monkeypatch.setattr(probed, "untrained", lambda config, seed: model(knowing(folder, noise=True)))
    return folder
