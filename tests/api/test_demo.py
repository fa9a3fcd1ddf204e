"""`jepa_speech.demo`; tests/cli/test_demo.py runs its steps."""

import jepa_speech
from jepa_speech.api import workflow


def test_commands_go_to_a_log(monkeypatch, tmp_path):
    ran = []

    def noted(command, results, log):
        ran.append(command)
        return {"seconds": 0.0, "results": {}}

    monkeypatch.setattr(workflow, "execute", noted)
    found = jepa_speech.demo(tmp_path / "out", data=tmp_path, root="/", steps=3, components=16)
    assert [command[0] for command in ran] == ["prepare", "fit", "label", "train", "analyze"]
    assert "--config.train.steps=3" in ran[3] and ran[1][ran[1].index("--components") + 1] == "16"
    assert [("--root" in command) for command in ran] == [True, False, False, False, False]
    lines = (tmp_path / "out" / "log.txt").read_text().splitlines()
    assert [line for line in lines if line] == [f"$ jepa-speech {' '.join(command)}" for command in ran]
    assert "No probes" in found["notes"][0] and list(found["seconds"].values()) == [0.0] * 5
