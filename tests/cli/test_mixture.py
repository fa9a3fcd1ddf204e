"""Training on a mixture of stores, as a user calls it."""

import json
from pathlib import Path

import pytest
from support.clustered_audio import babble_store
from support.random_anchors import make_gmm

from jepa_speech import cli

CONFIG = Path(__file__).parents[2] / "configs" / "smoke.py"
TOY = (
    "data.batch_seconds=2 data.buckets=1.0 encoder.width=16 encoder.blocks=1 encoder.heads=2 encoder.hidden=32 "
    "head.width=16 anchor.top_k=3 train.steps=2"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Two stores, labelled by one anchor."""
    folder = tmp_path_factory.mktemp("mixture")
    make_gmm().save(folder / "gmm.npz")
    for number, name in enumerate("ab"):
        babble_store(folder / name, [1.0] * 4, seed=10 * number)
        store = str(folder / name / "store")
        assert cli.main(["label", "--store", store, "--anchor", str(folder / "gmm.npz"), "--top-k", "3"]) == 0
    return folder


def train(place: Path, weights: tuple[float, float], *overrides: str) -> int:
    stores = ",".join(f"{place}/{name}/store:{weight}" for name, weight in zip("ab", weights, strict=True))
    settings = [*TOY.split(), f"data.store={stores}", f"anchor.path={place}/gmm.npz", *overrides]
    command = ["train", "--config", str(CONFIG), "--workdir", str(place / "run")]
    return cli.main([*command, *(f"--config.{setting}" for setting in settings)])


def test_a_run_on_two_stores_goes_on_with_no_other_weights(place, capsys):
    assert train(place, (1, 1.5)) == 0
    shown = capsys.readouterr().err
    assert "8 recordings" in shown and "1.5 x Store(" in shown
    rows = [json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    assert train(place, (1, 1.5)) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert train(place, (1, 2.0)) == 1
    assert "inputs.store" in capsys.readouterr().err
