"""What a probe during training shows and costs, on configs/smoke.py: writes during_training.json and docs/probes.png.

    python benchmarks/during_training.py --data librispeech

--data: a folder laid out as for `jepa-speech probe --data`, with phones.jsonl. Its train split is prepared, labelled by
a mixture and trained on, and its splits are probed at every 50th step. The picture is the one of `jepa-speech analyze`.
Other programs slow down steps and probes alike, so a probe is counted in steps of the same stretch of the run.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from jepa_speech.analysis.training_curves import curves
from jepa_speech.files import read_jsonl, write_json
from jepa_speech.training.ledger import WAITS

ROOT = Path(__file__).parents[1]
EVERY, SHOWN = 50, (50, 200, 500, 1000)  # train.probe_every: of the run, and of the table
DRAWN = ("step", "loss", "lambda", "probe_phone_accuracy", "probe_usage", "probe_target")


def trained(data: Path, work: Path, steps: int) -> Path:
    """The run folder of configs/smoke.py on the train split of `data`."""
    store, anchor, run = work / "store", work / "gmm.npz", work / "run"

    def go(*words: object) -> None:
        subprocess.run([sys.executable, "-m", "jepa_speech", *map(str, words)], check=True)

    go("prepare", "--input", data / "train.manifest.jsonl", "--out", store, "--codec", "pcm16")
    go("fit", "gmm", "--store", store, "--out", anchor, "--components", 64)
    go("label", "--store", store, "--anchor", anchor)
    inputs = f"--config.data.store={store}", f"--config.anchor.path={anchor}", f"--config.data.probe={data}"
    length = f"--config.train.steps={steps}", f"--config.train.probe_every={EVERY}"
    go("train", "--config", ROOT / "configs" / "smoke.py", "--workdir", run, *inputs, *length)
    return run


def in_steps(events: Iterable[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """Seconds of each probe but the first, which compiles, and how many steps before it take as long.

    events: of events.jsonl. The steps are those since the probe before.
    """
    seconds, relative, steps, busy = [], [], 0, 0.0
    for event in events:
        if event["event"] == "steps":
            steps += event["to"] - event["after"]
            busy += event["seconds"] - sum(event.get(wait, 0.0) for wait in WAITS)
            if event["probe"]:
                seconds.append(event["probe"])
                relative.append(event["probe"] * steps / busy)
                steps, busy = 0, 0.0
    return seconds[1:], relative[1:]


def table(seconds: Sequence[float], relative: Sequence[float]) -> list[list[str]]:
    """Rows: the cost of a probe, and its share of a run's time if it comes every so many steps; means, 95% (t)."""
    rows = [["what", "mean [95%]"]]
    n = len(seconds)
    means = {
        "seconds of a probe": (seconds, lambda x: f"{x:.2f}"),
        "steps that take as long": (relative, lambda x: f"{x:.1f}"),
    }
    means |= {
        f"share of the time of a run, `train.probe_every` = {every}": (
            [r / (r + every) for r in relative],
            lambda x: f"{x:.1%}",
        )
        for every in SHOWN
    }
    for name, (values, written) in means.items():
        half = student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)
        mean = float(np.mean(values))
        rows.append([name, f"{written(mean)} [{written(mean - half)}, {written(mean + half)}]"])
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True, metavar="DIR")
    options.add_argument("--steps", type=int, default=800)
    options.add_argument(
        "--work", type=Path, metavar="DIR", help="where store and run go, and stay; a run that is there is only read"
    )
    options.add_argument("--json", type=Path, metavar="FILE", default=Path(__file__).with_suffix(".json"))
    options.add_argument("--plot", type=Path, metavar="FILE", default=ROOT / "docs" / "probes.png")
    args = options.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        work = args.work or Path(passing)
        run = trained(args.data, work, args.steps) if not (work / "run").exists() else work / "run"
        seconds, relative = in_steps(read_jsonl(run / "events.jsonl"))
        rows = list(read_jsonl(run / "metrics.jsonl"))
    found = table(seconds, relative)
    probes = [{name: row[name] for name in row if name.startswith(("step", "probe_"))} for row in rows]
    write_json(
        args.json,
        {
            "table": found,
            "seconds": seconds,
            "in_steps": relative,
            "probes": [probe for probe in probes if len(probe) > 1],
        },
    )
    figure = curves([{name: row[name] for name in row if name.startswith(DRAWN)} for row in rows])
    figure.savefig(args.plot, dpi=66)  # small, because git keeps it
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
