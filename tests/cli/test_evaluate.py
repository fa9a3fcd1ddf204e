"""jepa-speech evaluate: the loss of a run on another store."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.clustered_audio import babble_store
from support.toys import CONFIGS, toy_anchor

from jepa_speech import cli


def test_evaluate_gives_every_term_and_the_same_twice(tmp_path, capsys):
    for name in ("trained", "heldout"):
        (tmp_path / name).mkdir()
        babble_store(tmp_path / name, [1.0] * 5)
    toy = ["data.batch_seconds=2", "data.buckets=1.0", "encoder.width=16", "encoder.blocks=2", "encoder.heads=2"]
    toy += ["encoder.hidden=32", "train.steps=2", "objective.distractors=5", "mask.span=3,3"]
    toy += [f"data.store={tmp_path / 'trained' / 'store'}"]
    train = ["train", "--config", "configs/smoke.py:wav2vec2", "--workdir", str(tmp_path / "run")]
    assert cli.main([*train, *(f"--config.{setting}" for setting in toy)]) == 0, capsys.readouterr().err
    results = []
    for _ in range(2):
        command = ["evaluate", "--checkpoint", str(tmp_path / "run"), "--store", str(tmp_path / "heldout" / "store")]
        assert cli.main([*command, "--json", str(tmp_path / "out.json")]) == 0, capsys.readouterr().err
        results.append(json.loads((tmp_path / "out.json").read_text()))
    assert results[0] == results[1]
    assert 0 < results[0]["contrastive"] < 2 * np.log(6)
    assert {"contrastive_accuracy", "diversity", "code_perplexity", "effective_rank"} < results[0].keys()
    assert "contrastive" in capsys.readouterr().out


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    return babble_store(tmp_path_factory.mktemp("short"), [0.5, 0.12])


def test_a_store_without_the_labels_is_one_line(tmp_path, capsys):
    assert cli.main(["evaluate", "--checkpoint", str(tmp_path), "--store", str(tmp_path)]) == 1
    assert "not a run folder" in capsys.readouterr().err


def test_what_is_read_is_told_and_what_is_missing_is_named(tmp_path, capsys, monkeypatch):
    """The anchor of a run by its path; how many recordings were cropped; which figure is the held-out loss."""
    monkeypatch.chdir(tmp_path)
    for name, seconds in (("trained", [1.0] * 5), ("heldout", [0.8, 1.0, 1.5])):
        Path(name).mkdir()
        babble_store(tmp_path / name, seconds)
    toy_anchor().save("my.npz")
    label = ["label", "--anchor", "my.npz", "--top-k", "3", "--store"]
    assert cli.main([*label, "trained/store"]) == 0
    toy = ["data.batch_seconds=2", "data.buckets=1.0", "anchor.path=my.npz", "data.store=trained/store"]
    train = ["train", "--config", f"{CONFIGS}/tiny.py", "--workdir", "run", "--config.train.steps=2"]
    assert cli.main([*train, *(f"--config.{setting}" for setting in toy)]) == 0, capsys.readouterr().err
    assert f"{CONFIGS}/tiny.py: objective gmm_jepa, encoder transformer, 0.0" in capsys.readouterr().err
    evaluate = ["evaluate", "--checkpoint", "run", "--store", "heldout/store"]
    assert cli.main(evaluate) == 1
    assert "run `jepa-speech label --store heldout/store --anchor my.npz`" in capsys.readouterr().err
    assert cli.main([*label, "heldout/store"]) == 0 and cli.main(evaluate) == 0
    shown = capsys.readouterr().out
    assert "on 3 recordings of heldout/store, 3 s (1 of them cropped to 1 s)" in shown
    assert "loss weighs its terms as step 2 does (lambda 0.01); compare runs by cluster, the held-out loss of" in shown


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["mask.span=300,300"], "mask.span = (300, 300): a clip of 50 frames is too short"),
        (
            ["mask.span=30,30"],
            "none of 2 recordings can be used: each must have at least 0.625 s (data.min_seconds, or the",
        ),
        (["data.min_seconds=3"], "none of 2 recordings can be used: each must have at least 3 s"),
        (
            ["data.min_seconds=3", "data.max_seconds=2"],
            "data.min_seconds, data.max_seconds = 3, 2: both must be 0 or more",
        ),
        (["data.max_seconds=0.1"], "at most 0.1 s (data.max_seconds)"),
    ],
)
def test_a_store_of_which_no_recording_can_be_used(short, keys, message, tmp_path, capsys):
    train = ["train", "--config", f"{CONFIGS}/tiny.py:pure_jepa", "--workdir", str(tmp_path / "run")]
    train += [f"--config.data.store={short.path}", "--config.data.buckets=1.0", "--config.data.batch_seconds=4"]
    assert cli.main([*train, *(f"--config.{key}" for key in keys)]) == 2
    line = capsys.readouterr().err
    assert message in line and line.count("\n") == 1 and not (tmp_path / "run").exists()
