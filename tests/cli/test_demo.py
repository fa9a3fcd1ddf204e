"""The demo at a toy size: all its steps, its report, and that finished steps are not done again."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.labelled_corpus import write_spoken

from jepa_speech import cli
from jepa_speech.api import demo, workflow
from jepa_speech.files import read_json
from jepa_speech.probing import phones
from jepa_speech.probing.linear import Recipe

TINY = """
from jepa_speech.training.configfile import config_dict

def get_config():
    config = config_dict({smoke!r})
    config.data.update(batch_seconds=2.0, buckets=(1.0,))
    config.encoder.update(width=16, blocks=1, heads=2, hidden=32)
    config.head.update(width=16)
    return config
"""


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """The verbs run in this process, at a toy size; what was run is noted."""
    ran = []

    def here(command, results, log):
        ran.append(command[0])
        results.parent.mkdir(parents=True, exist_ok=True)
        assert ("--root" in command) == (command[0] in ("prepare", "probe", "analyze"))
        assert cli.main([*command, "--json", str(results)]) == 0
        return {"seconds": 0.0, "results": read_json(results)}

    config = tmp_path / "tiny.py"
    config.write_text(TINY.format(smoke=demo.CONFIG))
    monkeypatch.setattr(demo, "CONFIG", str(config))
    monkeypatch.setattr(workflow, "execute", here)
    monkeypatch.setattr(phones, "RECIPE", Recipe(steps=20))
    return ran


def arguments(data: Path, out: Path) -> list[str]:
    return ["demo", "--data", str(data), "--out", str(out), "--steps", "2", "--components", "16", "--root", "/"]


def test_labelled_recordings_go_the_whole_road_once(commands, tmp_path, capsys):
    data, out = write_spoken(tmp_path / "mine"), tmp_path / "out"
    assert cli.main(arguments(data, out)) == 0
    assert commands == ["prepare", "fit", "label", "train", "probe", "probe", "probe", "probe", "analyze"]
    shown, lines = capsys.readouterr()
    assert "$ jepa-speech prepare --input" in lines
    assert all(f"phones: ours - {name} = " in shown for name in ("random", "logmel", "logmel5"))
    page = (out / "report.html").read_text()
    assert page.count('src="data:image/png;base64,') > 5
    assert all(name in page for name in ("ours", "random", "logmel", "logmel5", "jepa-speech train"))
    commands.clear()
    assert cli.main(arguments(data, out)) == 0
    assert commands == ["prepare"], "which finds out itself whether recordings changed"
    assert "done before" in capsys.readouterr().err
    assert (out / "report.html").read_text() == page


def test_a_bare_folder_is_trained_on_and_said_to_be_unprobed(monkeypatch, tmp_path, capsys):
    ran = []

    def noted(command, results, log):
        ran.append(command[0])
        return {"seconds": 0.0, "results": {}}

    monkeypatch.setattr(workflow, "execute", noted)
    assert cli.main(arguments(tmp_path, tmp_path / "out")) == 0
    assert ran == ["prepare", "fit", "label", "train", "analyze"]
    assert "No probes: they need labels" in capsys.readouterr().out
    assert "No probes" in (tmp_path / "out" / "report.html").read_text()


def test_a_step_that_fails_ends_the_demo_in_one_line(tmp_path, capfd):
    (tmp_path / "empty").mkdir()
    assert cli.main(arguments(tmp_path / "empty", tmp_path / "out")) == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines[-2].startswith("jepa-speech prepare: ") and "no recordings" in lines[-2]
    assert lines[-1].startswith("jepa-speech demo: the step above failed")
    assert cli.main(["demo", "--data", str(tmp_path / "nowhere")]) == 2


SAVES = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("ready", flush=True)
time.sleep({seconds})
"""


@pytest.mark.parametrize(("stop", "seconds", "code"), [(signal.SIGTERM, 60, 75), (signal.SIGINT, 1, 0)])
def test_a_verb_that_saves_is_waited_for(stop, seconds, code):
    """SIGTERM reaches the verb; Ctrl-C (which a terminal sends to both) does not end the demo before the verb ends."""
    with subprocess.Popen([sys.executable, "-c", SAVES.format(seconds=seconds)], stdout=subprocess.PIPE) as verb:
        verb.stdout.readline()
        threading.Timer(0.2, os.kill, (os.getpid(), stop)).start()
        assert workflow.outlast(verb) == code
