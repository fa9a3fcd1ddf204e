"""`compare` over several budgets, with stand-ins for its commands: what runs, what is kept, and what is chosen."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
from support.kills import Killed

from jepa_speech.api import compared_runs, workflow
from jepa_speech.api.compare import compare
from jepa_speech.api.ladder import Ladder, ladder_of
from jepa_speech.errors import UsageError, UserError
from jepa_speech.files import read_json
from jepa_speech.probing.bootstrap import figure

CONFIG = """
from jepa_speech.training.configfile import config_dict

ANCHORS = {"gmm_jepa": ("gmm", "--components", "8"), "pure_jepa": (), "anchor_alone": ("gmm", "--components", "8")}
LADDER = {
    "seeds": {"20": {"gmm_jepa": 2, "pure_jepa": 2, "anchor_alone": 1}, "80": {"gmm_jepa": 2, "anchor_alone": 1}},
    "learning_rates": (0.001, 0.003),
    "only_largest": ("abx",),
}

def get_config(variant):
    return config_dict("tiny:" + variant)
"""
KEYS = [f"audio/{i}.wav" for i in range(20)]


class Machine:
    """Stands for the commands. Trained systems are better with more steps, and at the learning rate 0.003."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.survives = 10**6  # commands until the kill

    def execute(self, command, results, log):
        if len(self.ran) == self.survives:
            raise Killed
        options = dict(pairwise(command))
        keys = dict(word.removeprefix("--config.").split("=") for word in command if word.startswith("--config."))
        self.ran.append(" ".join([command[0], options.get("--name", options.get("--workdir", ""))]))
        return {"seconds": 1.0, "results": getattr(self, command[0])(options, keys)}

    def prepare(self, options, keys):
        return {"fingerprint": "of-the-store"}

    def fit(self, options, keys):
        return {}

    def label(self, options, keys):
        return {}

    def train(self, options, keys):
        workflow.write_json(workflow.Path(options["--workdir"]) / "config.json", keys)
        return {"step": int(keys["train.steps"])}

    def probe(self, options, keys):
        source = workflow.Path(options["--checkpoint"])
        assert "--like" not in options or (workflow.Path(options["--like"]) / "config.json").exists()
        run = read_json(source / "config.json") if source.is_dir() else {"train.steps": 1, "optim.learning_rate": 0}
        right = 20 + 3 * np.log(float(run["train.steps"])) + 1000 * float(run["optim.learning_rate"])
        rng = np.random.default_rng(len(options["--name"]) if "--name" in options else 0)
        counts = np.stack([np.minimum(90, right + rng.integers(0, 20, 20)), np.full(20, 100)], axis=1).astype(int)
        tasks = options["--tasks"].split(",")
        head = {"valid": right / 100, "figures": {"accuracy": figure(KEYS, counts)}}
        part = {"figures": {"accuracy": "higher"}, "chosen": "layer 1", "heads": {"layer 0": head, "layer 1": head}}
        part |= {"confusion": [[1] * 40] * 40, "chance": 0.1}
        results = {"name": "x", "tasks": {task: part for task in tasks}}
        workflow.write_json(workflow.Path(options["--out"]) / f"{options.get('--name', source)}.json", results)
        return results


@pytest.fixture
def machine(monkeypatch):
    found = Machine()
    monkeypatch.setattr(workflow, "execute", lambda *call: found.execute(*call))
    monkeypatch.setattr(
        compared_runs, "budgeted", lambda c, s, a, budget: {"steps": int(budget), "TFLOP": int(budget) / 7}
    )
    return found


@pytest.fixture
def place(tmp_path):
    (tmp_path / "ladder.py").write_text(CONFIG)
    (tmp_path / "spoken").mkdir()
    (tmp_path / "spoken" / "phones.jsonl").write_text("{}\n")
    return tmp_path


def climb(place, out, tasks=("phones", "abx"), **options):
    data = {place / "spoken": tasks}
    return compare(place / "ladder.py", place / "spoken", data, place / out, **options)


def trained(machine):
    return [name.rpartition("/runs/")[2].removesuffix("/run") for name in machine.ran if name.startswith("train")]


def test_the_ladder_of_a_config(machine, place):
    found = climb(place, "out")
    runs = trained(machine)
    assert len(runs) == len(set(runs)) == 3 * 2 + 2 + 3, "two learning rates of three systems, further seeds, the top"
    assert (
        "20/gmm_jepa-lr0.003-1" in runs and "20/gmm_jepa-lr0.001-1" not in runs and "80/pure_jepa-lr0.003-0" not in runs
    )
    assert [row[:5] for row in found["table"][:6]] == [
        ["system", "runs", "steps", "TFLOP", "learning rate"],
        ["gmm_jepa", "2", "20", "2.86", "0.003"],
        ["pure_jepa", "2", "20", "2.86", "0.003"],
        ["anchor_alone", "1", "20", "2.86", "0.003"],
        ["gmm_jepa", "2", "80", "11.4", "0.003"],
        ["anchor_alone", "1", "80", "11.4", "0.003"],
    ]
    assert found["table"][0][5:] == ["phones accuracy, % [95%]", "abx accuracy, % [95%]"]
    assert [row[6] for row in found["table"][1:6]][:3] == [""] * 3 and found["table"][4][6], "abx only at the largest"
    assert found["learning_rates"]["pure_jepa"].keys() == {"0.003", "0.001"}
    pairs = [tuple(row[:3]) for row in found["differences"][1:]]
    assert len(pairs) == len(set(pairs)) == 3 + 1 + 5 * 3 and ("gmm_jepa", "anchor_alone", "80") in pairs
    assert (place / "out" / "ladder.png").stat().st_size > 10_000
    assert (place / "out" / "report.html").read_text().count('src="data:image/png;base64,') == 2
    files = sorted((place / "out" / "results").rglob("*.json"))
    assert len(files) == len(runs) + 4, "two untrained encoders and two baselines"
    assert str(place) not in "".join(file.read_text() for file in files), "results can be committed"
    assert max(file.stat().st_size for file in files) < 10_000 and "confusion" not in files[0].read_text()


def test_killed_before_any_command_it_does_the_rest_and_nothing_twice(machine, place):
    one = {"objectives": ["gmm_jepa"], "budgets": ["20", "80"], "seeds": 1}
    climb(place, "whole", **one)
    once = [run.replace("/whole/", "/out/") for run in machine.ran if not run.startswith("prepare")]
    machine.ran = []
    kills = 0
    while True:
        machine.survives = len(machine.ran) + 2  # `prepare` checks by itself what is there; then one command
        try:
            climb(place, "out", **one)
            break
        except Killed:
            kills += 1
    assert [run for run in machine.ran if not run.startswith("prepare")] == once and kills == len(once) - 1 > 8
    assert (place / "out" / "compare.json").read_bytes() == (place / "whole" / "compare.json").read_bytes()


def test_committed_results_stand_for_their_runs(machine, place):
    both = {"objectives": ["gmm_jepa", "anchor_alone"], "budgets": ["20", "80"]}
    found = climb(place, "out", **both)
    (place / "elsewhere").mkdir()
    for name in ("spoken", "ladder.py"):
        shutil.move(place / name, place / "elsewhere" / name)
    shutil.copytree(place / "out" / "results", place / "elsewhere" / "out" / "results")
    shutil.rmtree(place / "out")
    machine.ran = []
    for gone in ("80/gmm_jepa-lr0.003-1", "20/anchor_alone-lr0.003-0", "baselines/random-gmm_jepa-1"):
        (place / "elsewhere" / "out" / "results" / f"{gone}.json").unlink()
    assert climb(place / "elsewhere", "out", **both) == found
    untrained_like = "20/gmm_jepa-lr0.003-0"  # only a run says which architecture to draw
    assert trained(machine) == [untrained_like, "20/anchor_alone-lr0.003-0", "80/gmm_jepa-lr0.003-1"]
    machine.ran = []
    assert climb(place / "elsewhere", "out", **both) == found and machine.ran == ["prepare "]


def test_a_new_task_is_probed_alone_and_changed_data_again(machine, place):
    climb(place, "out", tasks=("phones",), objectives=["gmm_jepa"], budgets="20", seeds=1)
    machine.ran, before = [], len(machine.ran)
    climb(place, "out", tasks=("phones", "speaker"), objectives=["gmm_jepa"], budgets="20", seeds=1)
    assert before == len(machine.ran) + 4 and not trained(machine), "two trainings, fit and label are done"
    tasks = json.loads((place / "out" / "results" / "20" / "gmm_jepa-lr0.001-0.json").read_text())["tasks"]
    assert tasks.keys() == {"phones", "speaker"}
    (place / "spoken" / "phones.jsonl").write_text('{"other": 1}\n')
    machine.ran = []
    climb(place, "out", tasks=("phones", "speaker"), objectives=["gmm_jepa"], budgets="20", seeds=1)
    assert len(machine.ran) == 1 + 5 and not trained(machine)


CHANGES = {
    "config": (
        lambda made: made["config"]["train"].update(checkpoint_every=9),
        "the config key train.checkpoint_every",
    ),
    "seed": (lambda made: made.update(seed=5), "(seed)"),
    "data": (lambda made: made.update(store="another"), "(store)"),
    "anchor": (lambda made: made.update(fit=["gmm"]), "(fit)"),
    "older than a key": (lambda made: made["config"]["train"].pop("accumulate"), ""),
    "older than a key that is used": (lambda made: made["config"]["train"].pop("checkpoint_every"), "checkpoint_every"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_results_of_another_run_are_refused(machine, place, change):
    alter, message = CHANGES[change]
    options = {"tasks": ("phones",), "objectives": ["gmm_jepa"], "budgets": 20, "seeds": 1}
    climb(place, "out", **options)
    path = place / "out" / "results" / "20" / "gmm_jepa-lr0.003-0.json"
    results = json.loads(path.read_text())
    alter(results["made_from"])
    path.write_text(json.dumps(results))
    if not message:
        climb(place, "out", **options)
        return
    with pytest.raises(UserError, match="was made from another run") as error:
        climb(place, "out", **options)
    assert message in str(error.value)


TABLE = {"seeds": {"800": {"a": 3, "b": 1}, "3200": {"a": 1}}, "only_largest": ("pr",)}


def test_what_a_ladder_runs():
    assert ladder_of(TABLE, "x", None, None, None) == Ladder(TABLE["seeds"], (), ("pr",))
    assert ladder_of(TABLE, "x", ["b"], "800", None).seeds == {"800": {"b": 1}}
    assert ladder_of(TABLE, "x", ["b", "a"], ["3200", 800], 2).seeds == {b: {"b": 2, "a": 2} for b in ("800", "3200")}
    assert ladder_of(None, "x", ["a"], ["3e14FLOP", "1e15FLOP"], None).seeds == {
        "3e14FLOP": {"a": 1},
        "1e15FLOP": {"a": 1},
    }
    both = ladder_of(TABLE, "x", None, None, None)
    assert both.tasks({0: ["phones"], 1: ["pr"]}, "800") == ["phones"] and both.tasks({1: ["pr"]}, "3200") == ["pr"]


@pytest.mark.parametrize(
    ("table", "chosen", "message"),
    [
        (None, (None, "800", None), "has no LADDER"),
        (TABLE, (["a"], "12800", None), "nothing of the budget 12800"),
        (TABLE, (["b"], "3200", None), "nothing of b at the budget 3200"),
        (TABLE, (None, ["800", "3e14FLOP"], 1), "all as steps or all as FLOP"),
        (TABLE, (None, ["800", "800"], 1), "write each once"),
        (TABLE, (None, "0", 1), "budget = 0"),
        (TABLE, (None, None, 0), "seeds = 0"),
        ({"seeds": {"800": {"a": 0}}}, (None, None, None), "expected at least 1"),
        ({"seeds": {"much": {"a": 1}}}, (None, None, None), "budget = much"),
        (TABLE | {"rates": ()}, (None, None, None), "unknown key rates"),
        ([], (None, None, None), "configs/ladder.py shows the form"),
    ],
)
def test_what_no_ladder_is(table, chosen, message):
    with pytest.raises(UsageError, match=message):
        ladder_of(table, "x", *chosen)
