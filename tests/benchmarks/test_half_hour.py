"""benchmarks/half_hour.py at toy size on the CPU: all parts in turn, and a second time without any work."""

import importlib.util
import json
import math
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.labelled_corpus import PHONES, write_spoken
from support.toys import CONFIGS

import jepa_speech
from jepa_speech import cli
from jepa_speech.api import workflow
from jepa_speech.errors import Interrupted
from jepa_speech.files import read_json, read_jsonl, write_jsonl
from jepa_speech.probing import asr, ctc_head, evaluate, linear, phones, pooled, pr
from jepa_speech.training.configfile import imported, load_config

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "half_hour.py"
CONFIG = """
from jepa_speech.training.configfile import config_dict

FIT = ("--components", "16", "--features", "logmel", "--iterations", "2")
ANCHORS = {{"gmm_jepa": ("gmm", *FIT), "wavlm": ("kmeans", *FIT)}}

def get_config(variant):
    config = config_dict({tiny!r} + ":" + {{"gmm_jepa": "gmm_jepa", "wavlm": "hubert"}}[variant])
    config.encoder = config_dict({tiny!r}).encoder
    config.data.update(buckets=(1.0,))
    return config
"""
SECONDS = 6  # of audio: three steps
FIGURES = {  # by task
    "phones": ["accuracy"],
    "abx": ["ABX within", "ABX across"],
    "pr": ["per"],
    "asr": ["cer", "wer"],
    "emotion": ["accuracy"],
}


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("half_hour", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def verbs(monkeypatch):
    """What was run, in this process, with short recipes."""
    ran = []

    def here(command, results, log):
        ran.append(" ".join(command[:2]) if command[0] in ("fit", "export") else command[0])
        results.parent.mkdir(parents=True, exist_ok=True)
        assert cli.main([*command, "--json", str(results)]) == 0
        return {"seconds": 0.0, "results": read_json(results)}

    monkeypatch.setattr(workflow, "execute", here)
    short = linear.Recipe(learning_rates=(1e-2,), decays=(0.0,), steps=5, batch=64)
    ctc = ctc_head.Recipe(learning_rates=(1e-2,), steps=2, looks=1, batch=4, projection=4, units=2, lstms=1)
    monkeypatch.setattr(phones, "RECIPE", short)
    monkeypatch.setitem(evaluate.TASKS, "emotion", replace(pooled.EMOTION, RECIPE=short))
    monkeypatch.setattr(asr, "RECIPE", ctc)
    monkeypatch.setattr(pr, "RECIPE", replace(ctc, lstms=0, dropout=0.0, augment=None))
    return ran


@pytest.fixture
def speech(tmp_path) -> Path:
    """A folder as the script expects it, of tones."""
    for name in ("large", "librispeech", "emodb"):
        folder = write_spoken(tmp_path / "speech" / name, seconds=1.5)
        rows, random = list(read_jsonl(folder / "phones.jsonl")), np.random.default_rng(0)
        for row in rows:  # in any order, so that there are pairs of phones in one context
            row["phones"] = [[random.choice(list(PHONES)), *times] for _, *times in row["phones"]]
        write_jsonl(folder / "phones.jsonl", rows)
        for split in ("train", "valid", "test"):
            path = folder / f"{split}.manifest.jsonl"
            rows = [
                row | {"text": "ab", "emotion": ("calm", "glad")[i // 2 % 2]} for i, row in enumerate(read_jsonl(path))
            ]
            write_jsonl(path, rows)
            if (name, split) == ("large", "train"):
                write_jsonl(folder / "pretrain.manifest.jsonl", rows)
    return tmp_path / "speech"


@pytest.mark.parametrize(
    ("names", "tasks"),
    [
        (["gmm_jepa", "wavlm", "logmel"], ["phones", "emotion"]),
        pytest.param(["gmm_jepa", "wavlm", "random", "logmel", "logmel5"], list(FIGURES), marks=pytest.mark.slow),
    ],
)
def test_all_parts_one_after_the_other_then_nothing_twice(
    script, verbs, speech, tmp_path, monkeypatch, capsys, names, tasks
):
    assert [task for of in script.TASKS.values() for task in of] == list(FIGURES)
    monkeypatch.setattr(script, "TASKS", {folder: [t for t in of if t in tasks] for folder, of in script.TASKS.items()})
    config, work = tmp_path / "toy.py", tmp_path / "work"
    config.write_text(CONFIG.format(tiny=str(CONFIGS / "tiny.py")))
    command = ["half_hour.py", "--data", speech, "--work", work, "--config", config, "--out", tmp_path]
    command += ["--hours", SECONDS / 3600]

    def run(*parts):
        verbs.clear()
        monkeypatch.setattr(sys, "argv", [str(word) for word in [*command, *parts]])
        script.main()
        return list(verbs)

    assert run("prepare") == ["prepare", *["fit gmm", "label"], *["fit kmeans", "label"]]
    assert run("train", "--only", "gmm_jepa") == ["train", "export hf"]
    assert run("train", "--only", "gmm_jepa", "wavlm") == ["train", "export hf"], "that of WavLM"
    assert run("probe", "--only", *names) == ["probe"] * len(names) * 2
    assert run("table", "--only", *names) == []

    found = json.loads((tmp_path / "half_hour.json").read_text())
    ours, wavlm = (found["training"][name] for name in ("gmm_jepa", "wavlm"))
    assert ours["steps"] == 3 < wavlm["steps"] and ours["device"] == "cpu"
    assert 0 <= ours["TFLOP"] - wavlm["TFLOP"] < wavlm["TFLOP"] / wavlm["steps"], "equal to a step"
    for training in (ours, wavlm):
        assert training["hours"] == pytest.approx(training["steps"] * 2 / 3600)
        assert [row["step"] for row in training["curve"]] == [*range(1, training["steps"] + 1)]
        assert all(math.isfinite(row["loss"]) for row in training["curve"])
    head, *rows = found["table"]
    assert [row[0] for row in rows] == names and head[4:] == [
        f"{task} {figure}, % [95%]" for task in tasks for figure in FIGURES[task]
    ]
    for cell in (cell for row in rows for cell in row[4:]):
        value, low, high = (float(part.strip("[],")) for part in cell.split())
        assert low <= value <= high
    assert len(found["differences"]) == 2 + 2 * len(names[2:])
    assert "| gmm_jepa | 1 | 3 |" in (tmp_path / "half_hour.md").read_text()
    for name in ("gmm_jepa", "wavlm"):
        assert (tmp_path / f"half_hour_{name}.png").stat().st_size > 10_000
        encoder = jepa_speech.load_pretrained(work / name / "encoder")
        assert encoder.represent(np.ones(16_000), 16_000).layers[1].shape == (49, 16)
        assert "parameters in bfloat16" in (work / name / "encoder" / "README.md").read_text()

    before = (tmp_path / "half_hour.json").read_bytes()
    assert run("--only", *names) == ["prepare"], "which finds a whole store"
    assert (tmp_path / "half_hour.json").read_bytes() == before


@pytest.mark.parametrize("code", [Interrupted.exit_code, -signal.SIGTERM])
def test_after_its_minutes_it_ends_with_75(script, speech, tmp_path, monkeypatch, capsys, code):
    """The command in progress gets SIGTERM: training saves and ends with 75, other commands just end."""
    body = f"import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit({code})); time.sleep(60)"
    if code < 0:
        body = "import time; time.sleep(60)"
    popen = workflow.subprocess.Popen
    monkeypatch.setattr(workflow.subprocess, "Popen", lambda command, **how: popen([sys.executable, "-c", body], **how))
    command = ["half_hour.py", "prepare", "--data", speech, "--work", tmp_path, "--minutes", "0.01"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in command])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 75 and "run the same command to resume" in capsys.readouterr().err


def test_both_systems_differ_in_their_objective_alone():
    path = CONFIGS / "half_hour.py"
    ours, wavlm = (load_config(f"{path}:{name}") for name in imported(path).ANCHORS)
    assert (ours.encoder, ours.data, ours.optim, ours.train) == (wavlm.encoder, wavlm.data, wavlm.optim, wavlm.train)
    assert ours.encoder == load_config("gmm_jepa").encoder and ours.encoder.dtype == "bfloat16"
    assert (ours.objective.name, wavlm.objective.name) == ("gmm_jepa", "hubert") and wavlm.mixing.utterance > 0
    assert load_config(f"{path}:wavlm", {"train.steps": 100}).optim.warmup_steps == 8
