"""`--step`: every verb that opens a run has it, and what is made of two steps of a run is never taken for one."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile
from support.audio_files import tone
from support.exported_runs import write_three_checkpoints
from support.parsers import commands

import jepa_speech
from jepa_speech import cli
from jepa_speech.errors import UserError

OPEN_RUNS = {
    *("analyze", "embed", "evaluate", "export hf", "export onnx", "export s3prl", "export stablehlo"),
    *("fit gmm", "fit kmeans", "label", "probe", "transcribe"),
}


def test_every_verb_that_opens_a_run_has_the_option():
    options = {name: {action.dest for action in one._actions} for name, one in commands(cli.parser())}
    assert {name for name, there in options.items() if "checkpoint" in there} == OPEN_RUNS
    assert {name for name, there in options.items() if "step" in there} == OPEN_RUNS


def test_what_reads_a_checkpoint_reads_the_step_that_was_asked_for():
    """No module of a verb calls load_pretrained with the folder alone, unless its step has been settled before."""
    calls = [
        (path.name, line.strip())
        for folder in ("api", "cli")
        for path in sorted((Path(jepa_speech.__file__).parent / folder).glob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if "load_pretrained(" in line and "step" not in line
    ]
    assert {name for name, _ in calls} <= {"analyze.py", "feature_source.py", "probed.py"}  # by `chosen_checkpoint`


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Checkpoints 10, 20 and 30 of one architecture; the second has the lowest held-out loss."""
    return write_three_checkpoints(tmp_path_factory.mktemp("steps") / "run")


def test_python_opens_any_checkpoint(run):
    found = {wanted: jepa_speech.load_pretrained(run, step=wanted) for wanted in (None, 10, 20, 30, "latest", "best")}
    assert {wanted: model.step for wanted, model in found.items()} == {
        **{None: 30, 10: 10, 20: 20, 30: 30},
        **{"latest": 30, "best": 20},
    }
    assert [model.best for model in found.values()] == ["", "", "", "", "", "heldout_loss"]
    first, second = (jax.tree.leaves(found[step].params) for step in (10, 20))
    assert any((a != b).any() for a, b in zip(first, second, strict=True))
    assert jepa_speech.load_pretrained(run, best=True).step == 30  # without train.best, as ever
    assert jepa_speech.load_pretrained(run / "checkpoints" / "10").step == 10
    with pytest.raises(UserError, match="has no checkpoint of step 15; choose one of 10, 20, 30"):
        jepa_speech.load_pretrained(run, step=15)


def test_embed_by_each_step(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", tone(0.3), 16_000)
    arrays = {}
    for wanted, step in (("10", 10), ("best", 20), ("latest", 30)):
        line = ["embed", "a.wav", "--checkpoint", str(run), "--step", wanted, "--out", "a.npz", "--json", "a.json"]
        assert cli.main(line) == 0, capsys.readouterr().err
        assert "already complete" not in capsys.readouterr().out  # the file of another step is replaced
        assert json.loads(Path("a.json").read_text())["step"] == step
        with np.load("a.npz", allow_pickle=False) as found:
            arrays[step] = found["a.wav"]
    assert np.abs(arrays[10] - arrays[20]).max() > 1e-3 < np.abs(arrays[20] - arrays[30]).max()
    assert cli.main(["embed", "a.wav", "--checkpoint", str(run), "--step", "15", "--out", "b.npz"]) == 1
    error = capsys.readouterr().err
    assert error.endswith(f"{run}: has no checkpoint of step 15; choose one of 10, 20, 30\n") and error.count("\n") == 1
    assert not Path("b.npz").exists()


def test_the_card_of_an_export_states_the_step_and_shows_no_results_of_another(run, tmp_path, capsys):
    figure = {"value": 0.5, "low": 0.4, "high": 0.6}
    part = {
        "figures": {"accuracy": "higher"},
        "chosen": "layer 0",
        "heads": {"layer 0": {"valid": 0.4, "figures": {"accuracy": figure}}},
    }
    results = {"recipe": {}, "tasks": {"phones": part}}
    for name, step in (("ten", {"step": 10}), ("twenty", {"step": 20}), ("logmel", {})):
        (run / f"{name}.json").write_text(json.dumps({"name": name} | step | results))
    for wanted, step, shown in (("10", 10, "ten"), ("best", 20, "twenty")):
        out = tmp_path / wanted
        assert cli.main(["export", "hf", str(run), "--step", wanted, "--out", str(out)]) == 0, capsys.readouterr().err
        assert f"of step {step}" in capsys.readouterr().out
        card = (out / "README.md").read_text(encoding="utf-8")
        assert f" at step {step}, " in card and f"| step {step} of " in card
        assert shown in card and "logmel" in card and {"ten", "twenty"} & set(card.split()) == {shown}


def test_what_is_no_list_of_steps_is_refused_by_the_parser(capsys):
    assert cli.main(["probe", "--checkpoint", "RUN", "--data", "DIR", "--out", "results", "--step", "100,"]) == 2
    assert "argument --step: '': the number of a step, latest or best" in capsys.readouterr().err


@pytest.mark.parametrize("wanted", ["newest", "-1", "1.5", "10,20", ""])
def test_what_is_no_step_is_refused_by_the_parser(wanted, run, capsys):
    assert cli.main(["evaluate", "--checkpoint", str(run), "--store", "none", f"--step={wanted}"]) == 2
    assert f"argument --step: {wanted!r}: the number of a step, latest or best" in capsys.readouterr().err
