import json

import pytest

from jepa_speech import cli
from jepa_speech.cli.plan import CONSTANTS, on_paper

SETTING = {
    "batch_seconds": 1000.0,
    "steps": 100_000,
    "hours": 1000.0,
    "devices": 16,
    "hosts": 2,
    "codec": "flac",
    "kept": 10,
    "steps_per_second": 2.0,
    "recording_seconds": 12.0,
}


def test_against_hand_numbers(monkeypatch):
    for name, value in (("padding", 0.1), ("labels", 2.0), ("flac", 60.0), ("flac reader", 300.0)):
        monkeypatch.setitem(CONSTANTS, name, CONSTANTS[name]._replace(value=value))
    found = on_paper(**SETTING)
    by_hand = {
        "recordings": 300_000,  # 1000 h of 300 an hour
        "store_GB": 60,
        "index_GB": 0.012,  # 40 bytes each
        "labels_GB": 3.6,  # 3.6 million s of 50 frames of 10 components of 2 bytes
        "fit_on_hours": 100,
        "audio_s_per_step": 900,
        "padded_audio_s_per_device": 62.5,
        "steps_per_epoch": 4000,  # 3.6 million s / 900
        "epochs": 25,
        "days_at_that_step_rate": 100_000 / 2 / 86_400,
        "read_audio_s_per_s_per_host": 900,  # 2 steps of 900 s, by two hosts
        "read_utterances_per_s_per_host": 75,
        "read_MB_per_s_per_host": 15,  # a quarter of an hour each second
        "reading_cores_per_host": 3,
        "plan_MB_per_reader": 3.6,
    }
    assert {name: found[name] for name in by_hand} == pytest.approx(by_hand)


def test_small_corpora_are_fitted_whole_and_pcm_is_larger():
    assert on_paper(**SETTING | {"hours": 7.0})["fit_on_hours"] == 7
    assert on_paper(**SETTING | {"codec": "pcm16"})["store_GB"] > on_paper(**SETTING)["store_GB"]


def test_it_prints_each_constant_with_its_source(tmp_path, capsys):
    report = tmp_path / "plan.json"
    command = ["plan", "--config", "configs/gmm_jepa.py", "--hours", "100000", "--devices", "64"]
    assert cli.main([*command, "--config.data.batch_seconds=3840", "--json", str(report)]) == 0
    shown = capsys.readouterr().out
    for constant in CONSTANTS.values():
        assert f"{constant.value:g} {constant.unit} ({constant.source})" in shown
    found = json.loads(report.read_text())
    assert found["padded_audio_s_per_device"] == 60 and found["store_GB"] == pytest.approx(6600)
    assert found["constants"]["flac"]["unit"] == "MB per hour"


@pytest.mark.parametrize("wrong", [["--hours", "0"], ["--devices", "-8"], ["--hosts", "3"], ["--hours", "nan"]])
def test_nonsense_is_refused(wrong, capsys):
    command = ["plan", "--config", "configs/gmm_jepa.py", "--hours", "10", "--devices", "8", *wrong]
    assert cli.main(command) == 2
    assert "jepa-speech plan: " in capsys.readouterr().err
