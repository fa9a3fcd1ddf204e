"""The loss on held-out recordings at every checkpoint, and probes between them."""

import json
import shutil
from pathlib import Path

import pytest
from support.clustered_audio import babble_store
from support.labelled_corpus import write_spoken
from support.toys import toy_anchor

from jepa_speech.cli import main

TINY = str(Path(__file__).parents[2] / "configs" / "tiny.py")
SHORTEST = 0.085  # s, of a clip with a frame more than the span of its mask


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    toy_anchor().save(folder / "gmm.npz")
    for name, seed in (("train", 0), ("heldout", 100)):
        store = babble_store(folder / name, [0.4, 0.05, 0.9, 1.3, 0.45], seed)
        labelled = ["--store", str(store.path), "--anchor", str(folder / "gmm.npz"), "--top-k", "4"]
        assert main(["label", *labelled]) == 0
    write_spoken(folder / "spoken")
    return folder


def train(made: Path, run: Path, **changes: str) -> int:
    keys = {"data.store": made / "train" / "store", "data.heldout": made / "heldout" / "store"}
    keys |= {
        "data.buckets": 1.0,
        "anchor.path": made / "gmm.npz",
        "train.steps": 5,
        "train.checkpoint_every": 2,
        "train.keep": 5,
    }
    keys |= {key.replace("__", "."): value for key, value in changes.items()}
    overrides = [f"--config.{key}={value}" for key, value in keys.items()]
    return main(["train", "--config", TINY, "--workdir", str(run), *overrides])


def rows(run: Path, name: str = "metrics") -> list[dict]:
    return [json.loads(line) for line in (run / f"{name}.jsonl").read_text().splitlines()]


def test_each_checkpoint_has_the_loss_that_evaluate_gives_it(made, tmp_path, capsys):
    run, keys = tmp_path / "run", {"train__best": "heldout_cluster", "train__probe_every": "3"}
    assert train(made, run, data__probe=made / "spoken", **keys) == 0, capsys.readouterr().err
    header = capsys.readouterr().err
    assert "data: 4 recordings, " in header and "held out: left out" not in header
    where = f"recording 1 of {made / 'train' / 'store'} (001.wav)"
    limit = f"shorter than {SHORTEST:g} s (the objective's minimum, or data.min_seconds)"
    assert f"left out: 1 recording (0.1 s) {limit}; the first: {where}" in header
    start = next(event for event in rows(run, "events") if event["event"] == "start")
    left_out = {"shorter_than": SHORTEST, "recordings": 1, "seconds": 0.05, "first": where}
    assert start["left_out"] == {"store": [left_out], "heldout": []}
    told = {row["step"]: row for row in rows(run)}
    assert [step for step, row in told.items() if "heldout_loss" in row] == [2, 4, 5]
    store = made / "heldout" / "store"
    command = ["evaluate", "--checkpoint", str(run), "--store", str(store), "--json", str(tmp_path / "e.json")]
    assert main(command) == 0
    judged = json.loads((tmp_path / "e.json").read_text())
    for name in ("loss", "jepa", "cluster"):
        assert told[5][f"heldout_{name}"] == pytest.approx(judged[name], rel=1e-5)
    row, config = told[5], json.loads((run / "config.json").read_text())["objective"]
    clusters = row["heldout_cluster"] + config["visible_weight"] * row["heldout_cluster_visible"]
    assert row["heldout_loss"] == pytest.approx(row["heldout_jepa"] + row["heldout_lambda"] * clusters, rel=1e-5)
    assert sum(event.get("evaluation", 0) for event in rows(run, "events")) > 0

    assert [step for step, row in told.items() if "probe_phone_accuracy" in row] == [3, 5]
    assert told[3].keys() >= {"probe_rank_layer_0", "probe_rank_layer_1", "probe_usage_entropy"}
    assert 0 < told[3]["probe_target_usage_entropy"] == told[5]["probe_target_usage_entropy"] <= 1

    # Gone on from before the first probe, with the labelled recordings elsewhere: the same bytes.
    written = (run / "metrics.jsonl").read_bytes()
    for step in (4, 5):
        shutil.rmtree(run / "checkpoints" / str(step))
    shutil.copytree(made / "spoken", tmp_path / "moved")
    assert train(made, run, data__probe=tmp_path / "moved", **keys) == 0
    assert (run / "metrics.jsonl").read_bytes() == written
    capsys.readouterr()
    assert train(made, run, data__probe=write_spoken(tmp_path / "other", seed=1), **keys) == 1
    assert "holds a run with inputs.probe = " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__best": "heldout_loss", "data__heldout": ""}, "needs a store in data.heldout"),
        ({"train__best": "heldout_los"}, "no such figure; there are heldout_loss, heldout_cluster, "),
        ({"data__heldout": "nowhere"}, "nowhere: not a complete store"),
        ({"data__probe": "nowhere"}, "data.probe = 'nowhere' is read only by probes: set train.probe_every as well"),
        ({"data__probe": "nowhere", "train__probe_every": "2"}, "nowhere/train.manifest.jsonl: no such file"),
    ],
)
def test_what_cannot_be_is_told(changes, message, made, tmp_path, capsys):
    assert train(made, tmp_path / "run", **changes) in (1, 2)
    shown = capsys.readouterr().err
    assert message in shown and "compiled for" not in shown, "refused before the step is compiled"


def test_a_held_out_store_without_labels(made, tmp_path, capsys):
    store = babble_store(tmp_path / "bare", [0.5, 0.6], 7)
    assert train(made, tmp_path / "run", data__heldout=str(store.path)) == 1
    assert "no labels of anchor" in capsys.readouterr().err and not (tmp_path / "run").exists()
