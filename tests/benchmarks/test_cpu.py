"""benchmarks/cpu.py: the arithmetic of its table, that the torch peer computes our loss, and all of it in small."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="cores are chosen by sched_setaffinity")


@pytest.fixture
def load(monkeypatch):
    """A module of benchmarks/, as its scripts import it."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def test_ratios_are_of_the_same_turn(load):
    row = load("rows.race").Row("a", "b", [1.0, 2.0, 4.0], [3.0, 2.0, 20.0], goal=2.0)
    assert row.ratios.tolist() == [3, 1, 5]
    assert row.cells() == ("a", "2 s", "b: 3 s", "3.00 [1.00, 5.00] of 3", "≥ 2")
    assert row.report()["high"] == 5


def test_a_rate_that_is_higher_is_faster(load):
    row = load("rows.race").Row("a", "b", [300.0, 1000.0], [100.0, 500.0], "audio-s/s")
    assert row.ratios.tolist() == [3, 2]
    assert row.cells()[1:3] == ("650 audio-s/s", "b: 300 audio-s/s")


def test_a_share_is_of_what_does_more(load):
    row = load("rows.race").Row("a", "b", [2.0], [1.9], figure="share", goal=0.02)
    assert row.ratios == pytest.approx([0.05]) and row.cells()[3:] == ("5.0% [5.0%, 5.0%] of 1", "≤ 2%")


def test_growth_is_measured_over_predicted(load):
    row = load("rows.race").Row("a", "b", [12.0], [8.0], "ms", "growth")
    assert row.ratios == [1.5]


def test_turns_alternate(load):
    order = []
    runs = {name: (lambda name=name: order.append(name)) for name in "ab"}
    times = load("rows.race").alternate(runs, 3)
    assert "".join(order) == "ab" + 3 * "ab" and [len(found) for found in times.values()] == [3, 3]


def test_a_fit_finds_what_it_was_made_of(load):
    flops = np.array([1e9, 2e9, 8e9])
    line = load("rows.growth").fit(flops, 0.02 + flops / 5e10)
    assert line["fixed_s"] == pytest.approx(0.02) and line["flops_per_s"] == pytest.approx(5e10)
    assert line["worst_relative_error"] < 1e-9


def test_the_page_tells_all(load):
    cpu, race = load("cpu"), load("rows.race")
    row = race.Row("step", "torch", [1.0], [2.0], goal=1.0, note="as in the paper")
    part = {"rows": [row.report()], "table": [row.cells()], "minutes": 0.5, "others": 0.01}
    report = cpu.gathered({"step": part}, {"extraction": ["transformers"]}, 2, quick=False)
    assert report["table"] == [list(cpu.HEAD), list(row.cells())]
    shown = cpu.page(report)
    assert shown.splitlines()[2] == "| step | 1 s | torch: 2 s | 2.00 [2.00, 2.00] of 1 | ≥ 1 |"
    for part in ("at most 1.0% of the cores", "- step: as in the paper.", "packages are missing: transformers", "jax "):
        assert part in shown
    assert "NOT QUIET" not in shown
    assert "NOT QUIET: other programs took 20%" in cpu.page(report | {"others": {"step": 0.2, "mixture": 0.01}})
    assert "Toy" not in shown and cpu.page(report | {"quick": True}).startswith("Toy")


def test_every_row_is_a_file_that_names_its_peers(load):
    cpu = load("cpu")
    own = {"race", "made", "others", "torch_smoke"}
    assert set(cpu.NAMES + cpu.LONG) == {path.stem for path in (FOLDER / "rows").glob("*.py")} - own
    for name in cpu.NAMES + cpu.LONG:
        text = (FOLDER / "rows" / f"{name}.py").read_text(encoding="utf-8")
        assert ("import torch" not in text) or '"torch"' in text.partition("PEERS = ")[2].splitlines()[0]
        assert isinstance(cpu.missing(name), list)


def test_a_missing_peer_is_named(load, monkeypatch):
    cpu = load("cpu")
    monkeypatch.setattr(cpu, "found", lambda module: module != "transformers")
    assert cpu.missing("extraction") == ["transformers"] and cpu.missing("mixture") == []


def test_the_torch_peer_has_our_loss(load):
    """gmm_jepa: encoder, predictor, cluster head, teacher and both losses; one wrong weight changes the loss."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import jax

    from jepa_speech.objectives import build
    from jepa_speech.training.step import total_loss

    made, peer = load("rows.made"), load("rows.torch_smoke").Peer
    config, mixture = made.config_of("tiny.py:gmm_jepa", "encoder.dropout=0", components=16), made.anchor(16)
    given, objective = made.batch(config, 2, 0.5, mixture), build(config, mixture)
    key = jax.random.PRNGKey(0)
    params, aux_state = jax.jit(objective.init)(key)
    terms, mask = jax.jit(lambda *state: (objective.loss(*state, given, key, 0)[0], objective.view(given, key).mask))(
        params, aux_state
    )
    theirs = peer(config, objective, jax.device_get(params), given, np.asarray(mask))
    expected = float(total_loss(terms))
    assert theirs.loss().item() == pytest.approx(expected, rel=1e-4)
    theirs.run()  # a step moves all parts, and the teacher
    assert theirs.loss().item() != pytest.approx(expected, rel=1e-6)
    again = peer(config, objective, jax.device_get(params), given, np.asarray(mask))
    again.parts["predictor"].mask_token.data[0] += 0.5
    assert again.loss().item() != pytest.approx(expected, rel=1e-4)


def test_what_others_take_is_what_is_not_ours(load, monkeypatch, tmp_path):
    others, clock = load("rows.others"), iter([100.0, 110.0])
    monkeypatch.setattr(others, "STAT", tmp_path / "stat")
    monkeypatch.setattr(others.os, "sysconf", lambda name: 100)
    monkeypatch.setattr(others, "own", iter([1.0, 13.0]).__next__)
    monkeypatch.setattr(others.time, "monotonic", clock.__next__)
    line = "cpu{} {} 0 0 5 5 0 0 0 0 0\n"
    others.STAT.write_text("".join(line.format(*core) for core in (("", 999), (0, 100), (1, 100), (2, 100))))
    watch = others.Others([0, 1])
    others.STAT.write_text("".join(line.format(*core) for core in (("", 9999), (0, 1100), (1, 500), (2, 9999))))
    assert watch.share() == pytest.approx((10 + 4 - 12) / 20)  # ours 12 of 14 seconds of work, there were 20


@linux
def test_a_row_in_small(tmp_path):
    pytest.importorskip("torch")
    command = [sys.executable, FOLDER / "cpu.py", "--quick", "--only", "mixture", "--out", tmp_path]
    subprocess.run(command, check=True)
    report = json.loads((tmp_path / "cpu.json").read_text())
    rows = report["rows"]["mixture"]
    assert [row["goal"] for row in rows] == [4, 6, None] and len(report["table"]) == 4
    assert all(row["low"] <= row["median"] <= row["high"] and len(row["ratios"]) == 2 for row in rows)
    assert (tmp_path / "cpu.md").read_text().count("\n| ") == 4


@linux
def test_figures_of_toys_do_not_become_the_table():
    command = [sys.executable, FOLDER / "cpu.py", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "--out" in done.stderr


@pytest.mark.slow
@linux
def test_the_whole_table_in_small(tmp_path):
    pytest.importorskip("transformers")
    subprocess.run([sys.executable, FOLDER / "cpu.py", "--quick", "--out", tmp_path], check=True)
    report = json.loads((tmp_path / "cpu.json").read_text())
    assert len(report["table"]) == 1 + 15 and not report["left_out"]
    assert (tmp_path / "cpu_growth.png").stat().st_size > 5000


@pytest.mark.slow
@linux
def test_a_long_row_in_small(tmp_path):
    pytest.importorskip("transformers")
    command = [sys.executable, FOLDER / "cpu.py", "--quick", "--only", "embedding", "--out", tmp_path]
    subprocess.run(command, check=True)
    rows = json.loads((tmp_path / "cpu.json").read_text())["rows"]["embedding"]
    assert len(rows) == 4 and all(row["low"] > 0 for row in rows)
