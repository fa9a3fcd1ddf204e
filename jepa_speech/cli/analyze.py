"""jepa-speech analyze: a look inside checkpoints, side by side, as figures, pictures and one HTML report."""

import argparse
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from jepa_speech.analysis import over_steps, report, side_by_side, training_curves
from jepa_speech.analysis.collect import Analysis, Subject, analyse
from jepa_speech.analysis.recordings import Listed, from_manifest, from_store
from jepa_speech.analysis.subject import missing, open_anchor, wired
from jepa_speech.cli import root_option as root
from jepa_speech.cli.step_option import add_steps
from jepa_speech.errors import UsageError
from jepa_speech.files import read_jsonl
from jepa_speech.ownership import claim, mark, write_results
from jepa_speech.pretrained.load import load_pretrained
from jepa_speech.probe import evaluate, result_plots
from jepa_speech.probe.saved import read_results
from jepa_speech.store.store import Store
from jepa_speech.train.checkpoint_steps import chosen_checkpoints, located, name_of
from jepa_speech.train.compiled import compiled_once
from jepa_speech.wording import counted, duration

HELP = "look inside checkpoints: clusters beside their targets, ranks, likeness, curves, one HTML report"
EXAMPLE = "jepa-speech analyze --checkpoint RUN OTHER_RUN --store STORE --out analysis"
SECONDS = 20.0  # longer recordings are cut


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint", required=True, nargs="+", metavar="RUN", help="run folders or folders of transformers"
    )
    add_steps(parser)
    parser.add_argument("--store", required=True, metavar="STORE", help="recordings to look at")
    parser.add_argument("--out", required=True, metavar="DIR", help="gets report.html, analysis.json and plots")
    parser.add_argument("--data", metavar="DIR", help="labelled recordings (valid split): adds the phone figures")
    root.add_argument(parser)
    parser.add_argument(
        "--anchor", metavar="GMM.npz", help="the targets' anchor, of all checkpoints, if it was moved since training"
    )
    parser.add_argument("--probe", metavar="FILE", help="results of `jepa-speech probe`: adds its plots")
    parser.add_argument("--utterances", type=int, default=100, help="how many, drawn by the seed (default: 100)")
    parser.add_argument("--seed", type=int, default=0)


class Looked(NamedTuple):
    """What one list of recordings showed of every checkpoint."""

    where: str
    listed: Listed
    found: dict[str, Analysis]
    similar: dict[str, Any] | None  # CKA, where it was asked for


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.utterances < 1:
        raise UsageError(f"--utterances {args.utterances}: expected 1 or more")
    claim(Path(args.out) / "analysis.json", mark("results"))
    claim(Path(args.out) / "report.html", mark("report"))
    folders = named(
        [source for checkpoint in args.checkpoint for source in chosen_checkpoints(checkpoint, args.step or [])]
    )
    if len(args.checkpoint) > 1 and len(folders) > len(args.checkpoint):
        raise UsageError("--step: several steps are of one run; name one --checkpoint, or one step of all of them")
    draw = {"count": args.utterances, "seed": args.seed, "seconds": SECONDS}
    lists = {"store": (args.store, from_store(Store(args.store), **draw))}
    models = {name: load_pretrained(folder) for name, folder in folders.items()}
    probed = read_results(args.probe) if args.probe else None
    if args.data:
        lists["data"] = (f"{args.data}, valid split", from_manifest(Path(args.data), "valid", root=args.root, **draw))
    subjects, notes = {}, []
    for name, model in models.items():
        anchor, why = open_anchor(model.config, args.anchor)
        subjects[name] = wired(model, anchor, args.seed)
        notes += [f"{name}: {line}" for line in [*missing(model), why] if line]
    for note in notes:
        print(note)
    shortest = max(model.objective.min_samples for model in models.values())
    with compiled_once() if len(models) > 1 else nullcontext():
        looked = {
            name: looked_at(where, Listed(source, shortest), subjects, args.seed, compared=name == "store")
            for name, (where, source) in lists.items()
        }

    for line in (apart := side_by_side.left_out(looked["store"].found)):
        print(line)
    out = Path(args.out)
    pictures: dict[str, Any] = {}
    sections = [
        section for name in ("data", "store") if name in looked for section in shown(name, looked[name], pictures)
    ]
    sections = [with_notes(sections[0], notes), *sections[1:]]
    curves = {}
    if len(args.checkpoint) == 1 and len(folders) > 1:
        curves = along_steps(looked, {name: model.step for name, model in models.items()})
        sections = [*steps_sections(looked, curves, pictures), *sections]
    sections += likeness(looked["store"], apart, pictures)
    for name, run in runs_of(folders).items():
        sections += run_sections(run, pictures, name if len(args.checkpoint) > 1 else "")
    if probed is not None:
        drawn = result_plots.of_results(probed)
        sections.append(report.Section("Probe", table=evaluate.table([probed]), figures=list(drawn.values())))
        pictures |= drawn
    results = summary(looked, [*notes, *apart]) | {"report": str(out / "report.html")}
    results |= {"over_steps": curves} if curves else {}
    report.save_figures(out, pictures)
    write_results(out / "analysis.json", results)
    report.write(out / "report.html", f"Inside {', '.join(folders)}", sections)
    print(f"\nreport: {out / 'report.html'}")
    return results


def named(checkpoints: Sequence[str]) -> dict[str, Path]:
    """Each checkpoint under its run's name, with -STEP behind it where it is RUN/checkpoints/STEP; or under as much of
    its path as tells it from the others, in their names and in the names of files.
    """
    paths = [Path(checkpoint).resolve() for checkpoint in checkpoints]
    for i, path in enumerate(paths):
        if path in paths[:i]:
            raise UsageError(f"--checkpoint {checkpoints[i]}: the same folder twice; name each once")
    parts = [(*located(path)[0].parent.parts, name_of(path)) for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len({file_name(name) for name in names}) == len(names):
            return dict(zip(names, map(Path, checkpoints), strict=True))
    raise UsageError("--checkpoint: two of these checkpoints would get files of the same name; rename one run's folder")


def looked_at(where: str, listed: Listed, subjects: Mapping[str, Subject], seed: int, compared: bool) -> Looked:
    found, ckas = analyse(listed, subjects, seed, compared)
    return Looked(where, listed, found, side_by_side.similarities(ckas, found) if compared else None)


EXPLAINED = (
    "{held}, the same list for every model with the same seed. "
    "Each figure of the model stands beside that of its targets, which it should come near, and of labels drawn "
    "at random; – where there is none. docs/reading-curves.md says how to read them."
)


def shown(key: str, looked: Looked, pictures: dict[str, Any]) -> list[report.Section]:
    """The figures of all checkpoints on one list of recordings, then the pictures of each; adds to `pictures`."""
    found, first = looked.found, next(iter(looked.found.values()))
    table = side_by_side.rows(side_by_side.columns(found))
    held = f"{counted(first.recordings, 'recording')}, {duration(first.seconds / 3600)}"
    print(f"\n{looked.where}: {held}")
    print(evaluate.text(table))
    text = EXPLAINED.format(held=held)
    if skipped := len(looked.listed.too_short):
        text += f" Shorter than what every checkpoint can take, and left out: {skipped}."
    drawn = {f"{key}_{name}": figure for name, figure in side_by_side.shared_figures(found).items()}
    alone = len(found) == 1
    parts = []
    for name, one in found.items():
        own = {file_name(key, "" if alone else name, what): f for what, f in side_by_side.figures(one).items()}
        pictures |= own
        if alone:
            drawn |= own
        else:
            parts.append(report.Section(f"{name}, on {looked.where}", figures=list(own.values())))
    pictures |= drawn
    return [report.Section(f"On {looked.where}", text, table, list(drawn.values())), *parts]


def file_name(*parts: str) -> str:
    return "_".join(re.sub(r"[^\w.-]+", "-", part) for part in parts if part)


def with_notes(section: report.Section, notes: Sequence[str]) -> report.Section:
    return report.Section(section.heading, "\n".join([section.text, *notes]), section.table, section.figures)


def likeness(looked: Looked, apart: Sequence[str], pictures: dict[str, Any]) -> list[report.Section]:
    """CKA between layers."""
    assert looked.similar is not None  # of what was compared
    drawn = side_by_side.cka_figures(looked.similar)
    pictures |= drawn
    text = [ALIKE.format(frames=looked.similar["frames"]), *apart]
    return [report.Section("Likeness of layers", "\n".join(text), figures=list(drawn.values()))]


ALIKE = (
    "Linear CKA over {frames} frames, the same for all of a frame rate. Unrelated features are not at 0 but near their "
    "width divided by that number. Labels are compared as one-hot vectors."
)


def summary(looked: Mapping[str, Looked], notes: Sequence[str]) -> dict[str, Any]:
    """What analysis.json holds. A single checkpoint's figures stand under the names of the lists as well."""
    found = looked["store"].found
    results: dict[str, Any] = {
        "checkpoints": {name: {key: look.found[name].summary() for key, look in looked.items()} for name in found},
        "utterances": {key: look.listed.names for key, look in looked.items()},
        "too_short": {key: look.listed.too_short for key, look in looked.items()},
        "cka": looked["store"].similar,
        "notes": list(notes),
    }
    return results["checkpoints"][next(iter(found))] | results if len(found) == 1 else results


def along_steps(looked: Mapping[str, Looked], steps: Mapping[str, int]) -> dict[str, Any]:
    """What analysis.json holds of several steps of a run: the steps, and of each list its figures in their order.

    steps: of each checkpoint, by its name.
    """
    lists = {
        key: over_steps.of_analyses({steps[name]: found for name, found in one.found.items()})
        for key, one in looked.items()
    }
    return {"steps": sorted(steps.values()), **lists}


def steps_sections(
    looked: Mapping[str, Looked], curves: Mapping[str, Any], pictures: dict[str, Any]
) -> list[report.Section]:
    """The figures of each list against the step; adds to `pictures`."""
    drawn = {f"{key}_steps": over_steps.analysis_figure(curves["steps"], curves[key]) for key in looked}
    pictures |= drawn
    where = "\n".join(f"{key}: {one.where}" for key, one in looked.items())
    return [report.Section("Over the steps", where, figures=list(drawn.values()))]


def runs_of(folders: Mapping[str, Path]) -> dict[str, Path]:
    """The runs of checkpoints, each once, by the name of its first one."""
    runs: dict[Path, str] = {}
    for name, folder in folders.items():
        runs.setdefault(located(folder)[0], name)
    return {name: run for run, name in runs.items()}


def run_sections(folder: Path, pictures: dict[str, Any], name: str = "") -> list[report.Section]:
    """Losses, λ and probes over the steps, where the run folder still has its metrics."""
    path = folder / "metrics.jsonl"
    rows = list(read_jsonl(path)) if path.is_file() else []
    if len(rows) < 2:
        return []
    key = file_name(name, "curves")
    pictures[key] = training_curves.curves(rows)
    heading = f"Training of {name}" if name else "Training"
    return [report.Section(heading, f"{rows[-1]['step']} steps.", figures=[pictures[key]])]
