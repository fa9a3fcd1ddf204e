"""benchmarks/finetune.py in small: it ends with a table, and a second time does nothing again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.exported_runs import small_config, small_run
from support.tone_language import BEAT, melodies

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "finetune.py"


@pytest.mark.slow
def test_a_small_comparison(tmp_path):
    for split, count in (("train", 24), ("valid", 4), ("test", 4)):
        folder = tmp_path / "data" / "librispeech" / split
        manifest = melodies(folder, count, len(split))
        rows = [json.loads(line) for line in manifest.read_text().splitlines()]
        rows = [
            row | {"audio_path": f"{split}/{row['audio_path']}", "duration": BEAT * len(row["text"])} for row in rows
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder.parent / f"{split}.manifest.jsonl").write_text(text)
    pretrained = small_run(tmp_path / "pretrained", small_config("gmm_jepa"))
    command = [sys.executable, SCRIPT, "--data", tmp_path / "data", "--work", tmp_path / "work"]
    command += ["--pretrained", pretrained, "--minutes", "0.1", "--rates", "0.001", "--steps", "10"]
    for _ in range(2):
        said = subprocess.run([*command, "--out", tmp_path], check=True, stdout=-1, text=True).stdout
        table = (tmp_path / "finetune.md").read_text()
        assert table in said and table.count("\n") == 4
    assert "is finished: step 10" in said and "$ jepa-speech transcribe" not in said
    systems = json.loads((tmp_path / "finetune.json").read_text())["systems"]
    assert systems.keys() == {"pretrained-0.1", "scratch-0.1"}
    assert systems["scratch-0.1"]["cer"]["value"] > 0
