"""benchmarks/check.py: the rule by which a commit is slower, on made-up times."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "check.py"


@pytest.fixture(scope="module")
def check():
    spec = importlib.util.spec_from_file_location("check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def times(slower: float, turns: int = 8, noise: float = 0.03, seed: int = 0):
    """Of a pair, under a load that comes and goes and weighs on both, and a hiccup of head's."""
    random = np.random.default_rng(seed)
    load = random.uniform(1, 2, turns)
    base, head = (load * np.exp(noise * random.standard_normal(turns)) for _ in range(2))
    head[3] *= 3
    return base.tolist(), (slower * head).tolist()


def test_an_equal_pair_passes_and_one_that_is_20_percent_slower_fails(check):
    for seed in range(20):
        assert not check.judge("step", *times(1.0, seed=seed)).slower
        assert check.judge("step", *times(1.2, seed=seed)).slower


def test_within_10_percent_passes(check):
    assert not any(check.judge("step", *times(1.07, seed=seed)).slower for seed in range(20))


def test_noise_is_no_proof(check):
    """20% slower by the median, but so unsteady that the interval holds 10%."""
    verdict = check.judge("step", [1.0] * 8, [0.9, 1.0, 1.1, 1.2, 1.2, 1.3, 1.4, 1.5])
    assert verdict.ratio == pytest.approx(1.2) and (verdict.low, verdict.high) == (1.0, 1.4) and not verdict.slower


def test_too_few_turns_are_refused(check):
    with pytest.raises(SystemExit, match="at least 4"):
        check.judge("step", [1.0] * 3, [1.0] * 3)


def test_what_one_side_lacks_is_told(check):
    turn = {"base": {"step": 1.0, "new": "no such", "gone": 1.0}, "head": {"step": 1.5, "new": 1.0, "gone": "no such"}}
    verdicts, new, broken = check.judged([turn] * 4)
    assert [v.measure for v in verdicts] == ["step"] and verdicts[0].slower
    assert new == ["new: no such"] and broken == ["gone: no such"]
    assert "| step | 1 s | 1.5 s | 1.50 [1.50, 1.50] | SLOWER |" in check.table(verdicts)


def test_a_commit_is_measured_by_its_own_code(check, tmp_path):
    own = tmp_path / "benchmarks" / "check_measures.py"
    own.parent.mkdir()
    own.write_text("import pathlib, sys; pathlib.Path(sys.argv[2], 'seconds.json').write_text('{\"step\": 2.0}')")
    assert check.measure(tmp_path, tmp_path / "cache") == {"step": 2.0}


@pytest.fixture
def history(check, tmp_path, monkeypatch):
    """A repository of two commits on main and one on a branch; `base` lies where the branch left."""

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)

    git("init", "-q", "-b", "main")
    for branch, name in (("main", "first"), ("main", "second"), ("work", "third")):
        git("checkout", "-q", *(["-b"] if branch == "work" else []), branch) if name != "first" else None
        (tmp_path / name).write_text(name)
        git("add", name)
        git("commit", "-q", "-m", name)
    monkeypatch.setattr(check, "HERE", tmp_path)
    return tmp_path


def test_the_default_base_is_where_the_branch_left(check, history):
    main, before = check.git("rev-parse", "main"), check.git("rev-parse", "main~1")
    assert check.default_base(check.git("rev-parse", "work")) == main
    assert check.default_base(main) == before


@pytest.mark.parametrize(("slowed", "code"), [(1.0, 0), (1.2, 1)])
def test_from_the_command_line(check, history, monkeypatch, capsys, tmp_path, slowed, code):
    """Without measuring: commits are checked out, turns alternate, the exit code is right, nothing is left behind."""
    sides, json_file = [], tmp_path / "found.json"

    def measure(tree, cache):
        sides.append("head" if (tree / "third").exists() else "base")
        return {"step": slowed if sides[-1] == "head" else 1.0}

    monkeypatch.setattr(check, "measure", measure)
    monkeypatch.setattr(check.os, "sched_setaffinity", lambda *_: None, raising=False)
    monkeypatch.setattr(check.os, "sched_getaffinity", lambda *_: {0}, raising=False)
    monkeypatch.setattr(sys, "argv", ["check.py", "--head", "work", "--turns", "4", "--json", str(json_file)])
    assert check.main() == code
    assert sides == ["base", "head"] * 5 and ("SLOWER" in capsys.readouterr().out) == bool(code)
    assert len(json.loads(json_file.read_text())["turns"]) == 4
    assert len(check.git("worktree", "list").splitlines()) == 1
