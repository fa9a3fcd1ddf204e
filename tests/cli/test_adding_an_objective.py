"""docs/adding-an-objective.md: its two files, put in place as it says, train."""

import json
import re
import shutil

from support import pages
from support.clustered_audio import babble_store

import jepa_speech.objectives
from jepa_speech import cli
from jepa_speech.objectives import names

CONFIGS = pages.DOCS.parent / "configs"


def test_the_objective_of_the_docs_trains(tmp_path, monkeypatch, capsys):
    objective, config = re.findall(r"```python\n(.*?)```", pages.text("adding-an-objective.md"), re.S)
    folder, configs = tmp_path / "objectives", tmp_path / "configs"
    folder.mkdir()
    (folder / "masked_logmel.py").write_text(objective, encoding="utf-8")
    shutil.copytree(CONFIGS, configs)
    (configs / "masked_logmel.py").write_text(config, encoding="utf-8")
    monkeypatch.setattr(jepa_speech.objectives, "__path__", [*jepa_speech.objectives.__path__, str(folder)])
    assert "masked_logmel" in names()

    babble_store(tmp_path, [1.0] * 4)
    toy = ["data.batch_seconds=2", "data.buckets=1.0", "encoder.width=16", "encoder.blocks=1", "encoder.heads=2"]
    toy += ["encoder.hidden=32", "head.width=16", "train.steps=2", f"data.store={tmp_path / 'store'}"]
    command = ["train", "--config", str(configs / "masked_logmel.py"), "--workdir", str(tmp_path / "run")]
    assert cli.main([*command, *(f"--config.{setting}" for setting in toy)]) == 0, capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[0]["regression"] > 0 and rows[1]["effective_rank"] >= 1
