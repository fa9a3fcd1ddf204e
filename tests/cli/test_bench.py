import json
import subprocess
import sys

import pytest
from support.clustered_audio import babble_store

from jepa_speech import cli


def test_the_loader_s_figures_agree_with_each_other(tmp_path, capsys):
    store = babble_store(tmp_path, [0.5] * 8)
    report = tmp_path / "bench.json"
    command = ["bench", "data", str(store.path), "--workers", "0", "--seconds", "0.3", "--json", str(report)]
    assert cli.main(command) == 0
    found = json.loads(report.read_text())
    assert found["codec"] == "pcm16" and found["cores"] >= 1 and len(found["load_average"]) == 3
    (run,) = found["runs"]
    assert run["workers"] == 0 and run["seconds"] >= 0.3
    assert run["audio_hours_per_hour"] == pytest.approx(0.5 * run["utterances_per_second"])
    share = sum(store.info["shard_bytes"]) / 8 / 1e6  # of a recording: 16 kB of samples, and what the shard adds
    assert share >= 0.016 and run["mb_per_second"] == pytest.approx(share * run["utterances_per_second"])
    if sys.platform.startswith("linux"):
        assert run["pss_mb"] > 50
    assert "pcm16" in capsys.readouterr().out


def test_readers_leave_nothing_behind(tmp_path):
    """Neither memory that is shared with them nor a warning of Python about it."""
    store = babble_store(tmp_path, [0.5] * 8)
    command = [sys.executable, "-m", "jepa_speech", "bench", "data", str(store.path), "--workers", "0", "1"]
    done = subprocess.run([*command, "--seconds", "0.3"], capture_output=True, text=True, check=True)
    assert done.stderr == "" and len(done.stdout.splitlines()) == 4


@pytest.mark.parametrize("options", [["--seconds", "0"], ["--workers", "-1"]])
def test_nonsense_is_refused(tmp_path, options, capsys):
    assert cli.main(["bench", "data", str(tmp_path), *options]) == 2
    assert "seconds" in capsys.readouterr().err
