"""GMM-anchored JEPA at the published size beside WavLM in style, at equal FLOPs: half an hour on one GPU.

    python benchmarks/half_hour.py --data SPEECH --work runs/half_hour [PART ...] [--only NAME ...] [--minutes 9]

Parts, by default all of them:

    prepare  a store of SPEECH/large/pretrain.manifest.jsonl (recordings may be Opus), both anchors, and their labels
    train    both systems of configs/half_hour.py; their encoders become folders for transformers, in bfloat16
    probe    these encoders and three baselines, on SPEECH/librispeech and SPEECH/emodb
    table    half_hour.json, half_hour.md and the training curves, in --out

GMM-anchored JEPA trains for as many steps as --hours of audio have, padding included: 900 hours take 7.5 minutes at the
rate of benchmarks/gpu_again.json. WavLM trains for as many steps as have the same FLOPs (matrix products, also those of
teacher and heads). Learning rate, λ and the teacher's decay follow the number of steps.

Every step is a jepa-speech command in a process of its own. Finished steps are not repeated. After --minutes, or on
SIGTERM, the training in progress is saved, the exit code is 75, and the same command resumes. --only selects some of
gmm_jepa, wavlm, random, logmel and logmel5: `train --only wavlm`. `probe` needs only SPEECH/librispeech, SPEECH/emodb
and what `train` left in WORK/NAME/encoder and WORK/NAME/training.json; baselines can be probed without a GPU.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from jepa_speech.analysis.report import save_figure
from jepa_speech.analysis.training_curves import curves
from jepa_speech.api import compare_tables, compared_runs, finished
from jepa_speech.api.compare import fits_of
from jepa_speech.api.goodput import goodput
from jepa_speech.api.workflow import Workflow, labels_of, run_files
from jepa_speech.errors import Interrupted, UserError
from jepa_speech.files import read_json, read_jsonl, write_json, write_text
from jepa_speech.training.compiled import compiled_once_by_commands
from jepa_speech.training.configfile import load_config

HERE = Path(__file__).parent
SYSTEMS, BASELINES = ("gmm_jepa", "wavlm"), ("random", "logmel", "logmel5")
TASKS = {"librispeech": ("phones", "abx", "pr", "asr"), "emodb": ("emotion",)}
PARTS = ("prepare", "train", "probe", "table")
DRAWN, POINTS = ("step", "loss", "jepa", "cluster", "lambda", "effective_rank"), 200  # of a curve in half_hour.json


class HalfHour:
    """The parts. Each leaves files in the folder `work`, which the next ones read."""

    def __init__(self, data: Path, work: Path, config: str, hours: float, out: Path) -> None:
        self.data, self.work, self.config, self.hours, self.out = data, work, config, hours, out
        self.prepared, self.store = work / "prepared", work / "prepared" / "store"

    def prepare(self, names: Collection[str]) -> None:
        flow = Workflow(self.prepared)
        recordings = self.data / "large" / "pretrain.manifest.jsonl"
        flow.go("prepare", "--input", recordings, "--out", self.store, "--codec", "pcm16")
        for system, words in fits_of(self.config, SYSTEMS).items():
            anchor = self.anchor(system)
            flow.go("fit", *words, "--store", self.store, "--out", anchor, makes=lambda _, made=anchor: [made])
            flow.go("label", "--store", self.store, "--anchor", anchor, makes=labels_of)

    def train(self, names: Collection[str]) -> None:
        for system in (name for name in SYSTEMS if name in names):
            training, flow = self.budget(system), Workflow(self.work / system)
            run, encoder, done = flow.folder / "run", self.encoder(system), self.training(system)
            if done.is_file() and read_json(done)["steps"] == training["steps"]:
                print(f"{system}: {training['steps']} steps are done", flush=True)
                continue
            keys = {"data.store": self.store, "anchor.path": self.anchor(system), "train.steps": training["steps"]}
            settings = [f"--config.{key}={value}" for key, value in keys.items()]
            train = ("train", "--config", f"{self.config}:{system}", "--workdir", run, *settings)
            flow.go(*train, makes=partial(run_files, run))
            shutil.rmtree(encoder, ignore_errors=True)  # what a killed export left
            flow.go("export", "hf", run, "--out", encoder, "--dtype", "bfloat16")
            rows = list(read_jsonl(run / "metrics.jsonl"))
            save_figure(flow.folder / "curves.png", curves(rows))
            about = {"seconds": goodput(run)["seconds"], "device": device(), "curve": thinned(rows)}
            write_json(done, training | about)

    def probe(self, names: Collection[str]) -> None:
        labelled = {self.data / folder: tasks for folder, tasks in TASKS.items()}
        for name in (name for name in (*SYSTEMS, *BASELINES) if name in names):
            source: list[Any] = ["--checkpoint", self.encoder(name) if name in SYSTEMS else name, "--name", name]
            source += ["--like", self.encoder(SYSTEMS[0])] if name == "random" else []
            steps = read_json(self.training(name))["steps"] if name in SYSTEMS else None
            flow = Workflow(self.work / "probes" / name)
            found = compared_runs.probed(flow, labelled, name, *source, given=steps)
            tasks = {task: finished.trimmed(part) for task, part in found.items()}
            write_json(self.work / "results" / f"{name}.json", {"name": name, "tasks": tasks})

    def table(self, names: Collection[str]) -> None:
        trained = {name: read_json(self.training(name)) for name in SYSTEMS if name in names}
        compared = {
            name: self.compared(name, trained.get(name, {})) for name in (*SYSTEMS, *BASELINES) if name in names
        }
        systems, baselines = ([compared[name] for name in kind if name in names] for kind in (SYSTEMS, BASELINES))
        tables = {
            "table": compare_tables.scores([*systems, *baselines]),
            "differences": compare_tables.pairs(systems, baselines),
        }
        write_json(self.out / "half_hour.json", {"hours": self.hours, **tables, "training": trained})
        for name in trained:
            shutil.copyfile(self.work / name / "curves.png", self.out / f"half_hour_{name}.png")
        speeds = [f"- {name}: {speed(training)}\n" for name, training in trained.items()]
        text = "\n".join([markdown(tables["table"]), "".join(speeds), markdown(tables["differences"])])
        write_text(self.out / "half_hour.md", text)
        print(text)

    def compared(self, name: str, training: dict[str, Any]) -> compare_tables.Compared:
        """The results of a system or baseline. training: of a system."""
        results = read_json(self.work / "results" / f"{name}.json")
        return compare_tables.Compared(name, "equal" if training else "", [results | {"training": training}])

    def budget(self, system: str) -> dict[str, float]:
        """Steps of a system, their TFLOP, and the hours of audio in them, padding included."""
        configs = {name: load_config(f"{self.config}:{name}") for name in SYSTEMS}
        steps = max(1, round(3600 * self.hours / configs[SYSTEMS[0]].data.batch_seconds))
        count = partial(compared_runs.budgeted, store=self.store)
        found = count(configs[SYSTEMS[0]], anchor=self.anchor(SYSTEMS[0]), budget=str(steps))
        if system != SYSTEMS[0]:
            found = count(configs[system], anchor=self.anchor(system), budget=f"{1e12 * found['TFLOP']:.0f}FLOP")
        return found | {"hours": found["steps"] * configs[system].data.batch_seconds / 3600}

    def anchor(self, system: str) -> Path:
        return self.prepared / f"{system}.npz"

    def encoder(self, system: str) -> Path:
        return self.work / system / "encoder"

    def training(self, system: str) -> Path:
        """The file that is written last of a training."""
        return self.work / system / "training.json"


def thinned(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Some of the steps of metrics.jsonl, the last one among them."""
    every = max(1, len(rows) // POINTS)
    return [{key: row[key] for key in DRAWN if row.get(key) is not None} for row in rows[::-every][::-1]]


@cache
def device() -> str:
    """What jax computes on, asked in a process that ends: here, it would keep memory of the GPU."""
    asked = [sys.executable, "-c", "import jax; print(jax.devices()[0].device_kind)"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


def speed(training: dict[str, Any]) -> str:
    minutes = {name: seconds / 60 for name, seconds in training["seconds"].items()}
    return (
        f"{training['steps']:,} steps, {training['hours']:,.0f} hours of audio with padding. "
        f"Steps took {minutes['step']:.1f} minutes ({training['TFLOP'] / training['seconds']['step']:.0f} TFLOP/s), "
        f"waiting for data {minutes['data_wait']:.1f}, compiling {minutes['compile']:.1f}. {training['device']}"
    )


def markdown(table: Sequence[Sequence[str]]) -> str:
    head, *rows = ("| " + " | ".join(row) + " |\n" for row in table)
    return "".join([head, "|---" * len(table[0]), "|\n", *rows])


def stopped(*_: object) -> None:
    raise Interrupted("stopped")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--data", type=Path, required=True, metavar="SPEECH")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", nargs="+", choices=(*SYSTEMS, *BASELINES), default=(*SYSTEMS, *BASELINES))
    parser.add_argument("--minutes", type=float, default=0.0, help="stop after so long (default: never)")
    parser.add_argument("--hours", type=float, default=900.0, help="of audio for GMM-anchored JEPA (default: 900)")
    parser.add_argument("--config", default="half_hour", help="with both systems, and ANCHORS (default: half_hour)")
    parser.add_argument("--out", type=Path, default=HERE, metavar="DIR", help="for the table (default: benchmarks/)")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")

    run = HalfHour(args.data, args.work, args.config, args.hours, args.out)
    over = threading.Timer(60 * args.minutes, os.kill, (os.getpid(), signal.SIGTERM))
    over.daemon = True
    before = signal.signal(signal.SIGTERM, stopped)
    if args.minutes:
        over.start()
    try:
        with compiled_once_by_commands():
            for part in PARTS:
                if part in (args.parts or PARTS):
                    getattr(run, part)(args.only)
    except UserError as error:
        if isinstance(error, Interrupted) or (args.minutes and not over.is_alive()):
            print("benchmarks/half_hour.py: stopped; run the same command to resume", file=sys.stderr)
            sys.exit(Interrupted.exit_code)
        sys.exit(f"benchmarks/half_hour.py: {error}")
    finally:
        over.cancel()
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    main()
