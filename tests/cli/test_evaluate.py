"""jepa-speech evaluate: the loss of a run on another store."""

import json

import numpy as np
from babble import babble_store

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


def test_a_store_without_the_labels_is_one_line(tmp_path, capsys):
    assert cli.main(["evaluate", "--checkpoint", str(tmp_path), "--store", str(tmp_path)]) == 1
    assert "not a run folder" in capsys.readouterr().err
