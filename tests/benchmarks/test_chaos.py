"""benchmarks/chaos.py: it sees what differs, its trials kill, go on and are counted, and damage is noticed."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jepa_speech.errors import UserError
from jepa_speech.objectives import names

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "chaos.py"
# A program of 20 lines that takes up what a kill left: it writes one row after another, each with a checkpoint.
PROGRAM = """
import sys, time
from pathlib import Path
run = Path(sys.argv[1]); rows = run / "metrics.jsonl"
run.mkdir(exist_ok=True)
done = rows.read_bytes().count(b"\\n") if rows.exists() else 0
for step in range(done, 60):
    with rows.open("a") as file:
        file.write(f"{step}\\n")
    time.sleep(0.005)
"""


@pytest.fixture(scope="module")
def chaos():
    spec = importlib.util.spec_from_file_location("chaos", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)  # for `import killing`
        spec.loader.exec_module(module)
    return module


def test_any_bit_counts(chaos):
    ours = {"w": np.zeros(3, np.float32), "step": 4}
    assert chaos.differences(ours, dict(ours)) == []
    other = np.zeros(3, np.float32)
    other[1] = -0.0  # equal, but not the same bits
    assert chaos.differences(ours, ours | {"w": other}) == ["w"]
    assert chaos.differences(ours, ours | {"w": np.zeros(3)}) == ["w"]
    assert chaos.differences(ours, ours | {"step": 5}) == ["step"]
    assert "w" in chaos.differences(ours, {"step": 4})


@pytest.mark.parametrize("faithful", [True, False])
def test_a_program_that_takes_up_its_work_passes_and_one_that_does_not_fails(chaos, tmp_path, monkeypatch, faithful):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM if faithful else PROGRAM.replace("range(done, 60)", "range(60)"))
    step = chaos.Step(
        lambda folder: [sys.executable, str(program), str(folder / "run")],
        lambda folder: {"metrics.jsonl": (folder / "run" / "metrics.jsonl").read_bytes()},
    )
    monkeypatch.setattr(chaos, "steps_of", lambda work, variant: {"training": step})
    report = chaos.chaos({"training": 3, chaos.SAVE: 0}, "toy", 1, tmp_path / "work")
    assert [row["killed"] for row in report["trials"]] == [True] * 3
    identical = sum(row["identical"] for row in report["trials"])
    assert identical == 3 if faithful else identical < 3  # the latter may be killed before its first row
    assert f"| training | 3 | 3 | 0 | 3 | {identical} |" in chaos.table(report)


@pytest.fixture(scope="module")
def whole(chaos, tmp_path_factory):
    """A folder in which `damaged.trials` has made what it damages."""
    return tmp_path_factory.mktemp("damage")


def test_damage_is_never_loaded_as_good_and_loses_nothing(chaos, whole):
    rows = chaos.damaged.trials(30, 0, whole, chaos.make, chaos.differences)
    assert not [row for row in rows if row["end"] in chaos.damaged.FAILURES]
    assert {row["subject"] for row in rows if row["end"] == "refused"} == set(chaos.damaged.SUBJECTS)
    assert "| anchor | 6 | " in chaos.damaged.table(rows)


def opened(change):
    """A subject that reads one file, or raises what `change` says."""

    def values(folder):
        change(folder)
        file = folder / "a.bin"
        return {"data": file.read_bytes() if file.exists() else b""}

    return values


def refuse(folder):
    raise UserError(f"{folder}/a.bin: damaged; copy it again")


def destroy(folder):
    (folder / "other.bin").unlink()
    refuse(folder)


def crash(folder):
    raise KeyError("means")


def name_nothing(folder):
    raise UserError("a file is damaged")


def nothing(folder):
    pass


@pytest.mark.parametrize(
    ("change", "end"),
    [(refuse, "refused"), (destroy, "lost"), (crash, "traceback"), (name_nothing, "traceback"), (nothing, "wrong")],
)
def test_each_end_of_a_damaged_file_is_told_apart(chaos, tmp_path, change, end):
    for name in ("a.bin", "other.bin"):
        (tmp_path / name).write_bytes(b"sound")
    subject = chaos.damaged.Subject("a.bin", opened(change))
    expected = {"data": b"sound"}
    row = chaos.damaged.tried(subject, tmp_path, expected, np.random.default_rng(0), chaos.differences)
    assert row["end"] == end


@pytest.mark.slow
@pytest.mark.parametrize("variant", [name for name in names() if name != "ctc"])  # its corpus has no texts
def test_every_objective_goes_on_to_the_same_bits(variant, tmp_path):
    """One kill anywhere in training and one during a save; of GMM-anchored JEPA `make test` has three."""
    for kind in ("training", "training, during a save"):
        command = [sys.executable, str(SCRIPT), "--variant", variant, "--kind", kind, "--kills", "1"]
        subprocess.run([*command, "--json", str(tmp_path / "chaos.json")], check=True)
        (trial,) = json.loads((tmp_path / "chaos.json").read_text())["trials"]
        assert trial["killed"] and trial["identical"]
