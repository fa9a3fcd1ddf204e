"""A run as a stand-in, with all that `analyze` reads beside it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.labelled_corpus import knowing, write_spoken
from support.toys import toy_anchor

from jepa_speech.analysis import collect as analysis
from jepa_speech.analysis import report
from jepa_speech.api import analyze as module
from jepa_speech.files import write_json, write_jsonl
from jepa_speech.nn.encoder import EncoderConfig
from jepa_speech.nn.masks import MaskConfig
from jepa_speech.objectives.gmm_jepa import GmmJepaConfig
from jepa_speech.ownership import mark
from jepa_speech.settings.run_config import AnchorConfig, RunConfig
from jepa_speech.store.prepare import prepare
from jepa_speech.training.checkpoint_steps import located

png = report.png
PROBED = {
    "name": "ours",
    "tasks": {
        "phones": {
            "figures": {"accuracy": "higher"},
            "chosen": "layer 0",
            "heads": {"layer 0": {"valid": 0.4, "figures": {"accuracy": {"value": 0.4, "low": 0.3, "high": 0.5}}}},
            "layer_weights": [1.0],
            "chance": 0.1,
            "classes": ["A", "B"],
            "confusion": [[1, 0], [1, 1]],
        }
    },
}


def analysed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """RUN, STORE, DIR, GMM.npz and results/ours.json in the current folder. Returns the stand-in model.

    No pictures are drawn, which takes most of the time: `png` draws one.
    """
    monkeypatch.chdir(tmp_path)
    folder = write_spoken(tmp_path / "DIR")
    prepare([str(folder / "audio")], tmp_path / "STORE", workers=1)
    toy_anchor().save("GMM.npz")
    rows = [{"step": i, "loss": 1 / i, "cluster": 2 / i, "lambda": 1.0} for i in range(1, 6)]
    write_jsonl("RUN/metrics.jsonl", rows)
    write_json("results/ours.json", PROBED)
    model = stand_in(folder)
    for step in (100, 200, 300):
        Path("RUN/checkpoints", f"{step}").mkdir(parents=True)

    def load(path):
        return others.get(str(path), SimpleNamespace(**vars(model) | {"step": located(path)[1] or 300}))

    monkeypatch.setattr(module, "load_pretrained", load)
    monkeypatch.setattr(report, "png", lambda figure: mark("picture").encode())
    others.clear()
    return model


others: dict[str, SimpleNamespace] = {}  # stand-ins of other checkpoints than RUN, by folder


def stand_in(folder: Path, frame_rate: float = 50.0, **changes: Any) -> SimpleNamespace:
    """A model whose head answers as its targets do, and at hidden frames with an even guess."""
    truth, posteriors = knowing(folder), analysis.anchor_posteriors(toy_anchor())

    def masked(wave, rate, seed):
        p = posteriors(wave)
        hidden = np.random.default_rng(seed).random(len(p)) < 0.5
        return np.where(hidden[:, None], 1 / p.shape[1], p), hidden

    every = round(50 / frame_rate)
    parts = {
        "config": RunConfig(anchor=AnchorConfig("GMM.npz"), encoder=EncoderConfig(), objective=GmmJepaConfig()),
        "cluster_head": SimpleNamespace(mask=MaskConfig()),
        "represent": lambda wave, rate: SimpleNamespace(layers=[x[::every] for x in truth(wave, rate)]),
        "cluster_probs": lambda wave, rate: posteriors(wave),
        "masked_cluster_probs": masked,
        "objective": SimpleNamespace(frame_rate=frame_rate, min_samples=400),
    }
    return SimpleNamespace(**parts | changes)
