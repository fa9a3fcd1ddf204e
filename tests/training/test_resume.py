"""A run that was killed and went on is bit-identical to one that was not."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training.toy import ToyObjective, main, toy_batches, toy_config, train

from jepa_speech.errors import UserError
from jepa_speech.training.checkpoint import Checkpoints, arranged, by_path, read_weights
from jepa_speech.training.optim import OptimConfig, make_optimizer
from jepa_speech.training.restore import take_weights
from jepa_speech.training.sharding import MeshConfig, make_mesh
from jepa_speech.training.state import TrainState, abstract_state

TOY = Path(__file__).with_name("toy.py")


def toy_process(workdir: Path, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(TOY), str(workdir), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def final_state(workdir: Path) -> dict[str, np.ndarray]:
    optimizer = make_optimizer(OptimConfig())
    abstract = abstract_state(ToyObjective(), optimizer, 1, make_mesh(MeshConfig()))
    with Checkpoints(workdir, keep=2) as checkpoints:
        return {path: np.asarray(leaf) for path, leaf in by_path(checkpoints.restore(abstract)).items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    main(str(workdir))
    return workdir


def assert_same_run(a: Path, b: Path) -> None:
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
    ours, theirs = final_state(a), final_state(b)
    assert ours.keys() == theirs.keys()
    for path in ours:
        np.testing.assert_array_equal(ours[path], theirs[path], err_msg=path)


def test_killed_three_times_at_random_steps(whole, tmp_path):
    random, reached = np.random.default_rng(), 0
    for _ in range(3):
        step = int(random.integers(reached + 1, 12))
        print("killed at step", step)  # pytest shows it where this fails
        result = toy_process(tmp_path / "run", step, "SIGKILL")
        assert result.returncode == -9, result.stderr
        reached = step // 4 * 4  # or less: the newest save is not always whole yet
    assert toy_process(tmp_path / "run").returncode == 0
    assert_same_run(whole, tmp_path / "run")


def test_a_signal_saves_and_exits_75(whole, tmp_path):
    for step, name in ((6, "SIGTERM"), (9, "SIGUSR1")):
        result = toy_process(tmp_path, step, name)
        assert result.returncode == 75 and f"{name}: saved at step {step + 1}" in result.stderr
        assert read_weights(tmp_path)[0] == step + 1
    assert toy_process(tmp_path).returncode == 0
    assert_same_run(whole, tmp_path)


def test_a_second_signal_ends_the_process_at_once(tmp_path):
    assert toy_process(tmp_path, 6, "SIGINT", "SIGTERM").returncode == -15
    assert "interrupted" not in (tmp_path / "events.jsonl").read_text()


def test_a_finished_run_says_so(whole):
    before = (whole / "metrics.jsonl").read_bytes()
    config = toy_config()
    results = train(config, ToyObjective(), toy_batches(config), whole)
    assert results == {"finished_before": True, "compiled": 0} | json.loads(before.splitlines()[-1])
    assert (whole / "metrics.jsonl").read_bytes() == before


def test_another_config_is_refused(whole):
    config = toy_config() | {"seed": 2}
    with pytest.raises(UserError, match="seed = 1, not 2"):
        train(config, ToyObjective(), toy_batches(config), whole)


def test_another_architecture_is_refused_by_its_first_path(whole):
    like = jax.eval_shape(ToyObjective(width=5).init, jax.random.PRNGKey(0))
    with pytest.raises(UserError, match=r"params/in/bias is \(8,\) there, \(5,\) in this config"):
        arranged(read_weights(whole)[1], like, str(whole))


def test_weights_load_without_optimiser_and_data(whole):
    like = jax.eval_shape(ToyObjective().init, jax.random.PRNGKey(0))
    step, saved = read_weights(whole)
    params, aux_state = arranged(saved, like, str(whole))
    assert step == 12 and isinstance(params["in"]["kernel"], np.ndarray)
    np.testing.assert_array_equal(
        aux_state["teacher"]["in"]["kernel"], final_state(whole)["aux_state/teacher/in/kernel"]
    )


def test_what_a_kill_left_over_is_no_checkpoint(tmp_path):
    (tmp_path / "checkpoints" / "8.orbax-checkpoint-tmp").mkdir(parents=True)
    with pytest.raises(UserError, match="no whole checkpoint"):
        read_weights(tmp_path)
    (tmp_path / "checkpoints" / "8.orbax-checkpoint-tmp" / "weights").mkdir()
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.latest is None
    with pytest.raises(UserError, match="not a run folder"):
        read_weights(tmp_path / "elsewhere")


def test_init_from_takes_what_fits(whole, tmp_path, capsys):
    config = toy_config(steps=1) | {"init_from": str(whole)}
    config["optim"] |= {"learning_rate": 0.0}
    train(config, ToyObjective(), toy_batches(config), tmp_path / "same")
    _, weights = read_weights(tmp_path / "same")
    np.testing.assert_array_equal(weights["params/in/kernel"], final_state(whole)["params/in/kernel"])
    assert "7 arrays taken, 0 of this model stay fresh, 0 of that run" in capsys.readouterr().err
    train(config, ToyObjective(width=5), toy_batches(config), tmp_path / "narrow")
    out = capsys.readouterr().err
    assert "1 array taken, 6 of this model stay fresh, 6 of that run" in out
    assert re.search(r"whole: 6 arrays of another shape, the first: params/\S+ is \(.*\) there and \(.*\) here\n", out)


class Taught(ToyObjective):
    def teacher(self, params):
        return jax.tree.map(jnp.copy, params)


def test_a_teacher_that_a_run_lacks_is_a_copy_of_the_student(capsys):
    """As that of data2vec from a folder of transformers, or of S-JEPA from a run without a latent term."""
    objective, zero = Taught(), jnp.zeros((), jnp.int32)
    params, aux_state = objective.init(jax.random.PRNGKey(0))
    state = TrainState(params, aux_state, {}, zero, zero, zero, zero)
    there = {f"params/{path}": np.asarray(x) + 1 for path, x in by_path(params).items()}
    events = []
    log = SimpleNamespace(event=lambda name, **about: events.append(about))
    found = take_weights(objective, state, "there", log, lambda run: (3, there), print)
    jax.tree.map(np.testing.assert_array_equal, found.aux_state["teacher"], found.params)
    np.testing.assert_array_equal(found.params["out"]["kernel"], there["params/out/kernel"])
    assert events[0]["fresh"] == ["slow/seen"] and len(events[0]["copied"]) == len(there)
    assert "the teacher is a copy of the student" in capsys.readouterr().out
    there |= {f"slow/teacher/{path}": np.asarray(x) - 1 for path, x in by_path(params).items()}
    found = take_weights(objective, state, "there", log, lambda run: (3, there), print)
    np.testing.assert_array_equal(found.aux_state["teacher"]["out"]["kernel"], there["slow/teacher/out/kernel"])
    assert events[1]["copied"] == [] and "copy" not in capsys.readouterr().out
    del there["slow/teacher/in/kernel"]  # as a teacher of data2vec, which has no front-end of its own
    found = take_weights(objective, state, "there", log, lambda run: (3, there), print)
    teacher = found.aux_state["teacher"]
    np.testing.assert_array_equal(teacher["in"]["kernel"], there["params/in/kernel"])
    np.testing.assert_array_equal(teacher["out"]["kernel"], there["slow/teacher/out/kernel"])
    assert "1 array that it lacks of the teacher is a copy of the student's" in capsys.readouterr().out


def test_a_run_of_another_size_is_named_by_its_shapes():
    state = SimpleNamespace(params={"encoder": {"kernel": np.zeros((2, 8))}, "head": np.zeros(3)}, aux_state={})
    weights = {"params/encoder/kernel": np.zeros((2, 5)), "params/head": np.zeros(4)}
    with pytest.raises(UserError, match=r"2 arrays of another shape, the first: params/encoder/kernel is") as error:
        take_weights(ToyObjective(), state, "there", None, lambda run: (0, weights), print)
    assert "(2, 5) there and (2, 8) here; set --config.encoder.KEY to the values of `encoder`" in str(error.value)
    with pytest.raises(UserError, match=r"one in this model$"):
        take_weights(ToyObjective(), state, "there", None, lambda run: (0, {"other": np.zeros(3)}), print)
