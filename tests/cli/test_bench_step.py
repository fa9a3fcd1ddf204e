import json
from pathlib import Path

import jax
import pytest
from training.toy import ToyObjective

from jepa_speech import cli
from jepa_speech.api import bench
from jepa_speech.costs import batch_autotune, speed
from jepa_speech.training.configfile import load_config

CONFIG = str(Path(__file__).parents[2] / "configs" / "tiny.py")
STEP = ["bench", "step", "--config", f"{CONFIG}:pure_jepa"]


class Checked(ToyObjective):
    """As any config's objective: a program that compiles at once."""

    min_samples = 400

    def check(self, shortest, longest):
        assert shortest == longest > 400


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(speed, "build", lambda config: Checked())
    monkeypatch.setattr(bench, "matmul_rate", lambda dtype: speed.matmul_rate(dtype, sizes=(16, 32)))


def figures(tmp_path, *options: str) -> dict:
    report = tmp_path / "bench.json"
    assert cli.main([*STEP, *options, "--json", str(report)]) == 0
    return json.loads(report.read_text())


def test_the_step_of_a_config(tmp_path, capsys):
    found = figures(tmp_path, "--seconds", "0.5", "--rows", "8", "--steps", "2", "--warmup", "1")
    (run,) = found["runs"]
    assert (found["objective"], run["rows"], run["samples"], run["devices"]) == ("gmm_jepa", 8, 8080, 4)
    assert (run["dtype"], run["skipped"], len(run["step_seconds"])) == ("float32", 0, 2) and 0 < run["loss"] < 100
    median = run["step_seconds_median"]
    assert sorted(run["step_seconds"]) == [run["step_seconds_min"], run["step_seconds_max"]]
    assert median == pytest.approx(sum(run["step_seconds"]) / 2) and median > 0
    assert run["audio_seconds_per_second"] == pytest.approx(8 * 8080 / 16_000 / median)
    assert run["audio_hours_per_device_hour"] == pytest.approx(run["audio_seconds_per_second"] / 4)
    assert run["flops_per_second"] == pytest.approx(run["model_flops"] / median) and run["flops_again"] == 0
    assert run["model_flops"] > 10 * run["parameters"] and run["flops_xla"] > 0 and run["peak_bytes"] > 1e5
    rates = found["matmul"]["sizes"]
    assert found["matmul"]["flops_per_second"] == max(rates.values()) == rates[str(found["matmul"]["size"])]
    # The simulated devices of a CPU share its cores, and it has no data sheet.
    assert run["mfu_of_matmul"] == pytest.approx(run["flops_per_second"] / found["matmul"]["flops_per_second"])
    assert "mfu_of_sheet" not in run
    shown = capsys.readouterr().out
    assert "8 x   0.5 s" in shown and f"{median * 1e3:.2f} (" in shown and "not known of cpu" in shown


def test_rows_are_those_of_training_for_each_bucket(toy, tmp_path):
    found = figures(tmp_path, "--steps", "1", "--config.data.batch_seconds=5", "--config.train.accumulate=2")
    assert [(run["rows"], run["seconds"]) for run in found["runs"]] == [(16, 0.5), (8, 1.0)]  # multiples of 4 x 2
    assert [run["model_flops"] for run in found["runs"]] == [2 * rows * (2 * 8 * 2 + 8 * 3) for rows in (16, 8)]


def test_autotune_fills_memory_and_no_more(toy, tmp_path, capsys):
    options = ["--autotune", "--memory-gb", "0.0008", "--steps", "1", "--seconds", "1", "0.5"]
    found = figures(tmp_path, *options)
    long, short = found["runs"]
    assert long["rows"] % 4 == 0 == short["rows"] % 4 and short["rows"] > long["rows"] > 4
    setting = speed.make_setting(load_config(f"{CONFIG}:pure_jepa"))
    for run in found["runs"]:
        most = batch_autotune.SHARE * found["memory_bytes"]
        assert batch_autotune.compiled_peak(setting, run["rows"], run["samples"]) <= most
        assert batch_autotune.compiled_peak(setting, run["rows"] + 4, run["samples"]) > most
    assert found["batch_seconds"] == min(long["rows"], short["rows"] / 2)
    shown = capsys.readouterr()
    assert f"config.data.batch_seconds = {found['batch_seconds']:g}\n" in shown.out
    assert shown.err.count("as compiled") == long["shapes_compiled"] + short["shapes_compiled"] <= 10


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--config.encoder.widht=8"], "unknown config key encoder.widht: did you mean encoder.width"),
        (["--rows", "6"], "6 rows cannot be divided over 4 devices x 1 micro-batches (train.accumulate)"),
        (["--rows", "0"], "0 rows cannot be divided"),
        (["--steps", "0"], "steps = 0"),
        (["--seconds", "nan"], "nan seconds: must be at least 0.025"),
        (["--seconds", "0.03"], "a clip of 2 frames is too short"),
        (["--rows", "8", "--autotune"], "leave rows out"),
        (["--memory-gb", "1"], "with autotune"),
        (["--autotune", "--memory-gb", "0"], "above 0"),
        (["--config.mesh.fsdp=3"], "mesh.fsdp = 3"),
        (["--autotune", "--memory-gb", "1e-6", "--seconds", "1"], "not even 4 rows of 1 s fit into"),
    ],
)
def test_nonsense_is_refused(wrong, told, toy, monkeypatch, capsys):
    if "0.03" in wrong:
        monkeypatch.undo()  # the real one checks the shortest length
    assert cli.main([*STEP, *wrong]) == 2
    line = capsys.readouterr().err.rpartition("as compiled\n")[2]  # after the lines of a search
    assert line.startswith("jepa-speech bench: ") and told in line and line.count("\n") == 1


def test_a_batch_that_does_not_fit_is_one_line(toy, monkeypatch, capsys):
    def exhausted(*arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte.")

    monkeypatch.setattr(speed, "init_state", exhausted)
    assert cli.main([*STEP, "--seconds", "0.5"]) == 1
    assert "4 rows of 0.5 s: more than the device's memory; use fewer rows, or autotune" in capsys.readouterr().err
