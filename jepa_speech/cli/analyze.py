"""jepa-speech analyze: a look inside a checkpoint, as figures, pictures and one HTML report."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from jepa_speech.anchors.anchor import Anchor
from jepa_speech.anchors.load import load_anchor
from jepa_speech.data.store import Store
from jepa_speech.export.pretrained import load_pretrained
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.files import read_json, read_jsonl, write_json
from jepa_speech.probe import analysis, evaluate, plots, report, result_plots

HELP = "look inside a checkpoint: clusters beside their targets, ranks, curves, one HTML report"
EXAMPLE = "jepa-speech analyze --checkpoint RUN --store STORE --out analysis"
SECONDS = 20.0  # longer recordings are cut


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", required=True, metavar="RUN", help="a run folder")
    parser.add_argument("--store", required=True, metavar="STORE", help="recordings to look at")
    parser.add_argument("--out", required=True, metavar="DIR", help="gets report.html, analysis.json and plots")
    parser.add_argument("--data", metavar="DIR", help="labelled recordings (valid split): adds the phone figures")
    parser.add_argument("--anchor", metavar="GMM.npz", help="the targets' anchor, if it was moved since training")
    parser.add_argument("--probe", metavar="FILE", help="results of `jepa-speech probe`: adds its plots")
    parser.add_argument("--utterances", type=int, default=100, help="how many, drawn by the seed (default: 100)")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> dict[str, Any]:
    store, model = Store(args.store), load_pretrained(args.checkpoint)
    probed = read_json(args.probe) if args.probe else None
    draw = {"count": args.utterances, "seed": args.seed, "seconds": SECONDS}
    lists = {"store": analysis.from_store(store, **draw)}
    if args.data:
        lists["data"] = analysis.from_manifest(Path(args.data), "valid", **draw)
    look = wired(model, anchor_of(model.config, args.anchor), args.seed)
    found = {name: look(recordings) for name, recordings in lists.items()}

    out, sections, pictures = Path(args.out), [], {}
    for name, where in (("data", f"{args.data}, valid split"), ("store", args.store)):
        if name in found:
            table = analysis.rows(found[name].table)
            print(f"\n{where}: {found[name].recordings} recordings, {found[name].seconds / 60:.1f} minutes")
            print(evaluate.text(table) if len(table) > 1 else "no cluster head, no targets")
            drawn = {f"{name}_{key}": figure for key, figure in analysis.figures(found[name]).items()}
            text = EXPLAINED.format(recordings=found[name].recordings, minutes=found[name].seconds / 60)
            heading = f"On {where}"
            sections.append(report.Section(heading, text, table if len(table) > 1 else (), list(drawn.values())))
            pictures |= drawn
    sections += run_sections(Path(args.checkpoint), pictures)
    if probed is not None:
        drawn = result_plots.of_results(probed)
        sections.append(report.Section("Probe", table=evaluate.table([probed]), figures=list(drawn.values())))
        pictures |= drawn
    results = {name: look.summary() for name, look in found.items()} | {"report": str(out / "report.html")}
    report.save_figures(out, pictures)
    write_json(out / "analysis.json", results)
    report.write(out / "report.html", f"Inside {Path(args.checkpoint).resolve().name}", sections)
    print(f"\nreport: {out / 'report.html'}")
    return results


EXPLAINED = (
    "{recordings} recordings, {minutes:.1f} minutes, the same list for every model with the same seed. "
    "Each figure of the model stands beside that of its targets, which it should come near, and of labels drawn "
    "at random. docs/reading-curves.md says how to read them."
)


def anchor_of(config: Any, path: str | None) -> Anchor | None:
    """The anchor of the run's targets; None, said in one line, where it, or what it needs, is not at hand."""
    path = path or config["anchor"]["path"]
    if "," in path:
        print("the targets are an ensemble of anchors: their column is left out; --anchor GMM.npz brings one's back")
        return None
    if path and not Path(path).is_file():
        print(f"{path} is not there: the targets' column is left out; --anchor GMM.npz brings it back")
        return None
    anchor = load_anchor(path) if path else None
    if anchor is not None and anchor.checkpoint_fingerprint:
        print(f"{path} lives in {anchor.features} of another checkpoint: the targets' column is left out")
        return None
    return anchor


def wired(model: Any, anchor: Anchor | None, seed: int) -> Any:
    """`analyse` with the model's layers, its cluster head if it has one, and its targets."""
    return partial(
        analysis.analyse,
        represent=lambda wave: model.represent(wave, SAMPLE_RATE).layers,
        model=(lambda wave: model.cluster_probs(wave, SAMPLE_RATE)) if model.has_clusters else None,
        targets=analysis.anchor_posteriors(anchor) if anchor is not None else None,
        seed=seed,
    )


def run_sections(folder: Path, pictures: dict[str, Any]) -> list[report.Section]:
    """Loss and λ over the steps, where the run folder still has its metrics."""
    path = folder / "metrics.jsonl"
    rows = list(read_jsonl(path)) if path.is_file() else []
    if len(rows) < 2:
        return []
    pictures["curves"] = plots.curves(rows)
    return [report.Section("Training", f"{rows[-1]['step']} steps.", figures=[pictures["curves"]])]
