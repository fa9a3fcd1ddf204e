"""jepa-speech demo: every step from recordings to a probed and analysed encoder, at a small size.

Each step is a verb of this program, run in a process of its own by the command that is printed: whatever the demo
does can be done by hand. A step whose command was done before is not done again.
"""

import argparse
import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jepa_speech.analysis import report
from jepa_speech.api.workflow import Workflow, labels_of, probe_files, run_files
from jepa_speech.cli import root_option as root
from jepa_speech.cli.demo_corpus import write_corpus
from jepa_speech.errors import UsageError
from jepa_speech.lock import LOCK, locked
from jepa_speech.ownership import claim, mark
from jepa_speech.probe import evaluate, result_plots
from jepa_speech.settings.run_config import plain
from jepa_speech.train.configfile import load_config

HELP = "run every step on synthetic voices, or on --data DIR, and write runs/demo/report.html"
EXAMPLE = "jepa-speech demo"

CONFIG = "smoke"
SPLITS = ("train", "valid", "test")
SYNTHETIC = (
    "These are synthetic voices, and few: the table shows that the commands work, not how good the method is on speech."
)
GPL = (
    "eSpeak NG, a GPL-3.0 tool, speaks the demo's corpus: a script runs it in its own process, and this package "
    "never imports it (see NOTICE)."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="DIR", help="your own recordings, instead of synthetic voices")
    root.add_argument(parser)
    parser.add_argument("--out", default="runs/demo", metavar="DIR", help="default: runs/demo")
    parser.add_argument("--steps", type=int, default=800, metavar="N", help="of training (default: 800)")
    parser.add_argument("--components", type=int, default=128, metavar="K", help="of the mixture (default: 128)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    out = Path(args.out)
    claim(out / "report.html", mark("report"))
    with locked(out / LOCK, "demo"):
        return whole(args, out)


def whole(args: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Runs all steps and writes the report."""
    data = Path(args.data) if args.data else speak(out / "voices")
    if not data.is_dir():
        raise UsageError(f"{data}: no such folder; --data takes a folder of recordings")
    work = out / name_of(data) if args.data else out / "voices"
    flow, tasks = Workflow(work, root=args.root), probe_tasks(data)
    anywhere = root.passed_on(args.root)

    pretrain = data / "pretrain.manifest.jsonl"
    source = pretrain if pretrain.is_file() else data
    store, anchor, trained, analysis = work / "store", work / "gmm.npz", work / "run", work / "analysis"
    flow.go("prepare", "--input", source, *anywhere, "--out", store, "--max-reject-fraction", 0.1)
    mixture = ("--components", args.components, "--features", "mfcc", "--normalize", "mean")
    flow.go("fit", "gmm", "--store", store, "--out", anchor, *mixture, makes=lambda results: [anchor])
    flow.go("label", "--store", store, "--anchor", anchor, makes=labels_of)
    settings = {"data.store": store, "anchor.path": anchor, "train.steps": args.steps}
    overrides = [f"--config.{key}={value}" for key, value in settings.items()]
    resolved = plain(load_config(CONFIG, overrides))
    train = ("train", "--config", CONFIG, "--workdir", trained, *overrides)
    flow.go(*train, given=resolved, makes=partial(run_files, trained))
    probes = []
    if tasks:
        options = ("--data", data, *anywhere, "--tasks", ",".join(tasks), "--out", work / "probe")
        systems: dict[str, tuple[Any, ...]] = {
            "ours": (trained, "--name", "ours"),
            "random": ("random", "--like", trained),
        }
        systems |= {name: (name,) for name in ("logmel", "logmel5")}
        for name, system in systems.items():
            found = partial(probe_files, work / "probe", name)
            probes.append(flow.go("probe", "--checkpoint", *system, *options, reads=[data], makes=found))
    labelled = ("--data", data, *anywhere, "--probe", work / "probe" / "ours.json") if tasks else ()
    look = ("analyze", "--checkpoint", trained, "--store", store, "--out", analysis, *labelled)
    reads = [data] if tasks else []
    inside = flow.go(*look, reads=reads, makes=lambda results: [analysis / "report.html", *analysis.glob("*.png")])

    notes = [SYNTHETIC] if not args.data else [] if tasks else [unprobed(data)]
    notes += differences(probes, tasks)
    table = evaluate.table(probes) if probes else []
    write_report(out / "report.html", table, notes, probes, analysis, flow)
    print("\n" + "\n".join([*([evaluate.text(table), ""] if table else []), *notes, f"report: {out / 'report.html'}"]))
    return {
        "report": str(out / "report.html"),
        "notes": notes,
        "seconds": {step["name"]: step["seconds"] for step in flow.steps},
        "probe": {probe["name"]: probe for probe in probes},
        "analyze": inside,
    }


def speak(folder: Path) -> Path:
    corpus = folder / "corpus"
    if not corpus.is_dir():
        print(GPL, flush=True)
    return write_corpus(corpus)


def name_of(data: Path) -> str:
    """A name for the work on a folder, that of another folder of the same name being another."""
    path = data.resolve()
    return f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:6]}"


def probe_tasks(data: Path) -> list[str]:
    """The probes that the labels in a folder allow."""
    phones = [data / "phones.jsonl", *(data / f"{split}.manifest.jsonl" for split in SPLITS)]
    speaker = [data / f"sid.{split}.manifest.jsonl" for split in SPLITS]
    needs = {"phones": phones, "speaker": speaker}
    return [task for task, files in needs.items() if all(file.is_file() for file in files)]


def unprobed(data: Path) -> str:
    return (
        f"No probes: they need labels, {{train,valid,test}}.manifest.jsonl with phones.jsonl, or "
        f"sid.{{train,valid,test}}.manifest.jsonl, and {data} has neither. Losses, clusters and ranks are below."
    )


def differences(probes: Sequence[dict[str, Any]], tasks: Sequence[str]) -> list[str]:
    """Ours minus each baseline, paired over the test utterances."""
    return [
        f"{task}: ours - {other['name']} = {evaluate.compare([probes[0]], [other], task)} points (paired)"
        for task in tasks
        for other in probes[1:]
    ]


def write_report(
    path: Path,
    table: Sequence[Sequence[str]],
    notes: Sequence[str],
    probes: Sequence[dict[str, Any]],
    analysis: Path,
    flow: Workflow,
) -> None:
    """The table and how the systems compare, every plot of `analyze`, and the commands that made them."""
    compared = []
    for task in probes[0]["tasks"] if probes else ():
        scores = {probe["name"]: evaluate.estimate(probe, task) for probe in probes}
        compared.append(result_plots.systems(scores, probes[0]["tasks"][task], task))
    commands = [("command", "seconds"), *((step["command"], f"{step['seconds']:.0f}") for step in flow.steps)]
    sections = [
        report.Section("Result", "\n".join(notes), table, compared),
        report.Section("Inside the encoder", figures=sorted(analysis.glob("*.png"))),
        report.Section("What was run", table=commands),
    ]
    report.write(path, "jepa_speech demo", sections)
