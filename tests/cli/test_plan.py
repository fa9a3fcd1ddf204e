import json
import subprocess
import sys
from pathlib import Path

import pytest

from jepa_speech import cli
from jepa_speech.costs.corpus_on_paper import CONSTANTS, corpus_on_paper
from jepa_speech.costs.exchange import Bytes, exchange_seconds
from jepa_speech.training.chips import Chip

ROOT = Path(__file__).parents[2]
SETTING = {
    "batch_seconds": 1000.0,
    "steps": 100_000,
    "hours": 1000.0,
    "devices": 16,
    "hosts": 2,
    "codec": "flac",
    "steps_per_second": 2.0,
    "recording_seconds": 12.0,
}
TINY = ["plan", "--config", "configs/tiny.py", "--hours", "100000", "--devices", "64"]


def test_against_hand_numbers(monkeypatch):
    made_up = {"padding": 0.1, "sharp labels": 2.0, "soft labels": 20.0, "flac": 60.0, "flac reader": 300.0}
    for name, value in made_up.items():
        monkeypatch.setitem(CONSTANTS, name, CONSTANTS[name]._replace(value=value))
    found = corpus_on_paper(**SETTING)
    by_hand = {
        "recordings": 300_000,  # 1000 h of 300 an hour
        "store_GB": 60,
        "index_GB": 0.012,  # 40 bytes each
        "sharp_labels_GB": 0.36,  # 3.6 million s of 50 frames of 2 bytes
        "soft_labels_GB": 3.6,
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
    assert corpus_on_paper(**SETTING | {"hours": 7.0})["fit_on_hours"] == 7
    assert corpus_on_paper(**SETTING | {"codec": "pcm16"})["store_GB"] > corpus_on_paper(**SETTING)["store_GB"]


def test_seconds_of_an_exchange_by_hand():
    """Domains of 4 devices; 1 GB/s within, 0.1 GB/s between. 4 GB are split, 2 GB of a teacher, none are whole."""
    chip, model = Chip(1e12, 1e9, near=1e9, domain=4, far=1e8), Bytes(4_000_000_000, 2_000_000_000, 0)
    assert exchange_seconds(model, 1, 4, chip) == pytest.approx(3 / 4 * 10)  # gathered 6, scattered 4
    # 8 in a group: within each domain as above; each device then sends a quarter to the other domain, there and back.
    assert exchange_seconds(model, 1, 8, chip) == pytest.approx(3 / 4 * 10 + 1 / 2 * 10 / 4 / 0.1)
    # A group in each of two domains: what each device keeps of the gradients, 1 GB, is summed between two.
    assert exchange_seconds(model, 2, 4, chip) == pytest.approx(3 / 4 * 10 + 2 * 1 / 2 * 1 / 0.1)
    assert exchange_seconds(Bytes(0, 0, 4_000_000_000), 4, 1, chip) == pytest.approx(2 * 3 / 4 * 4)


def test_a_plan(tmp_path, capsys):
    """One line for all: shapes of a whole step are traced, which takes seconds."""
    report = tmp_path / "plan.json"
    options = ["--config.data.batch_seconds=3840", "--config.train.steps=1000", "--config.mesh.fsdp=8"]
    assert cli.main([*TINY, *options, "--chip", "h100", "--mfu", "0.25", "--json", str(report)]) == 0
    found, shown = json.loads(report.read_text()), capsys.readouterr().out
    for constant in CONSTANTS.values():
        assert f"{constant.value:g} {constant.unit} ({constant.source})" in shown
    assert found["padded_audio_s_per_device"] == 60 and found["store_GB"] == pytest.approx(6600)
    assert found["constants"]["flac"]["unit"] == "MB per hour"
    assert "assumed of the anchor: components 1024, features logmel, normalize level" in shown
    assert "64 h100 at 25% of its peak (assumed)" in shown

    whole = 4e-3 * found["parameters_M"]  # GB
    assert whole / 8 < found["parameters_GB"] < whole / 4  # matrices are split, vectors are not
    assert found["optimiser_GB"] == pytest.approx(2 * found["parameters_GB"], rel=1e-3)  # two moments
    assert found["gradients_GB"] == found["parameters_GB"]
    parts = ("parameters", "optimiser", "teacher_and_other_slow", "gradients", "gathered_weights")
    assert found["device_GB"] == pytest.approx(sum(found[f"{name}_GB"] for name in (*parts, "activations_at_most")))
    work = found["TFLOP_per_step"] / (64 * 989 * 0.25)  # s
    exchange = found["exchange_ms_per_step"] / 1e3
    assert found["days_without_overlap"] == pytest.approx(1000 * (work + exchange) / 86_400)
    assert found["days_with_full_overlap"] == pytest.approx(1000 * max(work, exchange) / 86_400)
    assert found["steps_per_second"] == pytest.approx(1 / (work + exchange))


@pytest.mark.parametrize(
    "wrong",
    [
        ["--hours", "0"],
        ["--devices", "-8"],
        ["--hosts", "3"],
        ["--hours", "nan"],
        ["--mfu", "1.5"],
        ["--config.mesh.fsdp=5"],
        ["--config.mesh.rules=*/kernel: 7"],
    ],
)
def test_nonsense_is_refused(wrong, capsys):
    assert cli.main([*TINY, *wrong]) == 2
    assert "jepa-speech plan: " in capsys.readouterr().err


def test_the_docs_show_the_table_that_was_made():
    table = (ROOT / "benchmarks" / "collectives.md").read_text(encoding="utf-8")
    assert table in (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_table_is_what_is_made_today():
    made = subprocess.run([sys.executable, "benchmarks/collectives.py"], cwd=ROOT, check=True, capture_output=True)
    assert made.stdout.decode() == (ROOT / "benchmarks" / "collectives.md").read_text(encoding="utf-8")
