"""Every step from recordings to a probed and analysed encoder, at a small size.

Each step is a verb of this program, run in a process of its own by a command that is shown: whatever the demo does can
be done by hand. A step whose command was done before is not done again.
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jepa_speech.analysis import report
from jepa_speech.api.demo_corpus import write_corpus
from jepa_speech.api.workflow import Workflow, labels_of, probe_files, run_files
from jepa_speech.errors import UsageError
from jepa_speech.local_paths import takes_local_paths
from jepa_speech.lock import LOCK, locked
from jepa_speech.ownership import claim, mark
from jepa_speech.probing import evaluate, result_plots
from jepa_speech.settings.run_config import plain
from jepa_speech.training.configfile import load_config

CONFIG = "smoke"
SPLITS = ("train", "valid", "test")
SYNTHETIC = (
    "These are synthetic voices, and few: the table shows that the commands work, not how good the method is on speech."
)
GPL = (
    "eSpeak NG, a GPL-3.0 tool, speaks the demo's corpus: a script runs it in its own process, and this package "
    "never imports it (see NOTICE)."
)


@takes_local_paths
def demo(
    out: str | Path = "runs/demo",
    *,
    data: str | Path | None = None,
    root: str | Path | None = None,
    steps: int = 800,
    components: int = 128,
    progress: bool = False,
) -> dict[str, Any]:
    """Run every step on synthetic voices or on `data`, and write OUT/report.html.

    Args:
        out: the folder that gets the report and everything that it is made of.
        data: a folder of your own recordings, instead of synthetic voices (which need eSpeak NG).
        root: allow recordings of `data` anywhere below this folder; default: only in their input's own folder.
        steps: of training.
        components: of the mixture.
        progress: show each command and what it prints. Otherwise `out`/log.txt gets that.

    Returns a dict: `report` (path), `notes` (what the table means and how the systems compare, in words), `seconds` of
    each step, `probe` (the results of each probe, by system) and `analyze` (see `analyze`).

    Raises UsageError if `data` is no folder, UserError if a step fails, Interrupted if the training was interrupted and
    saved.
    """
    out = Path(out)
    claim(out / "report.html", mark("report"))
    with locked(out / LOCK, "demo"):
        work = out / name_of(Path(data)) if data else out / "voices"
        flow = Workflow(work, root=root, log=None if progress else out / "log.txt")
        found = Path(data) if data else speak(work / "corpus", flow, progress)
        if not found.is_dir():
            raise UsageError(f"{found}: no such folder; data takes a folder of recordings")
        return run_all(found, bool(data), flow, out, steps, components)


def run_all(data: Path, own: bool, flow: Workflow, out: Path, steps: int, components: int) -> dict[str, Any]:
    """Runs all steps and writes the report. own: whether the recordings are the user's."""
    work, tasks = flow.folder, probe_tasks(data)
    anywhere = ["--root", flow.root] if flow.root else []

    pretrain = data / "pretrain.manifest.jsonl"
    source = pretrain if pretrain.is_file() else data
    store, anchor, trained, analysis = work / "store", work / "gmm.npz", work / "run", work / "analysis"
    flow.go("prepare", "--input", source, *anywhere, "--out", store, "--max-reject-fraction", 0.1)
    mixture = ("--components", components, "--features", "mfcc", "--normalize", "mean")
    flow.go("fit", "gmm", "--store", store, "--out", anchor, *mixture, makes=lambda results: [anchor])
    flow.go("label", "--store", store, "--anchor", anchor, makes=labels_of)
    settings = {"data.store": store, "anchor.path": anchor, "train.steps": steps}
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

    notes = [] if own and tasks else [unprobed(data)] if own else [SYNTHETIC]
    notes += differences(probes, tasks)
    table = evaluate.table(probes) if probes else []
    write_report(out / "report.html", table, notes, probes, analysis, flow)
    return {
        "report": str(out / "report.html"),
        "notes": notes,
        "seconds": {step["name"]: step["seconds"] for step in flow.steps},
        "probe": {probe["name"]: probe for probe in probes},
        "analyze": inside,
    }


def speak(corpus: Path, flow: Workflow, progress: bool) -> Path:
    """Writes the synthetic voices, and says which program speaks them."""
    if not corpus.is_dir():
        flow.say(GPL)
    return write_corpus(corpus, progress=progress)


def name_of(data: Path) -> str:
    """Returns a working name for a folder, different for different folders of the same name."""
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
