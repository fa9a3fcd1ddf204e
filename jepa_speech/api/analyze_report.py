"""The report of `jepa_speech.analyze`: sections with the figures as tables and pictures."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from jepa_speech.analysis import over_steps, side_by_side, training_curves
from jepa_speech.analysis.collect import Analysis
from jepa_speech.analysis.recordings import Listed
from jepa_speech.analysis.report import Section
from jepa_speech.files import read_jsonl
from jepa_speech.probing import evaluate, result_plots
from jepa_speech.wording import counted, duration

EXPLAINED = (
    "{held}, the same list for every model with the same seed. "
    "Each figure of the model is shown beside that of its targets, which it should come near, and of labels drawn "
    "at random; – where there is none. docs/reading-curves.md says how to read them."
)

ALIKE = (
    "Linear CKA over {frames} frames, the same for all of a frame rate. Unrelated features score not 0 but about their "
    "width divided by that number. Labels are compared as one-hot vectors."
)


class Looked(NamedTuple):
    """What one list of recordings showed of every checkpoint."""

    where: str
    listed: Listed
    found: dict[str, Analysis]
    similar: dict[str, Any] | None  # CKA, where it was asked for


def sections_of(
    looked: Mapping[str, Looked],
    notes: Sequence[str],
    apart: Sequence[str],
    curves: Mapping[str, Any],
    runs: Mapping[str, Path],
    probed: evaluate.Results | None,
) -> tuple[list[Section], dict[str, Figure]]:
    """The sections of the report, and their pictures by the names of files.

    looked: by list, "data" and "store". notes: what the checkpoints lack; apart: between which of them there is no CKA.
    curves: figures over the steps of one run, or empty. runs: folders of training runs, by the heading's name ("" if
    there is only one). probed: results of a probe.
    """
    pictures: dict[str, Figure] = {}
    sections = [section for name in looked for section in shown(name, looked[name], pictures)]
    sections = [with_notes(sections[0], notes), *sections[1:]]
    if curves:
        sections = [*steps_sections(looked, curves, pictures), *sections]
    sections += similarity(looked["store"], apart, pictures)
    for name, run in runs.items():
        sections += run_sections(run, pictures, name)
    if probed is not None:
        drawn = result_plots.of_results(probed)
        sections.append(Section("Probe", table=evaluate.table([probed]), figures=list(drawn.values())))
        pictures |= drawn
    return sections, pictures


def held(recordings: int, seconds: float) -> str:
    """How much audio was looked at, in words."""
    return f"{counted(recordings, 'recording')}, {duration(seconds / 3600)}"


def shown(key: str, looked: Looked, pictures: dict[str, Figure]) -> list[Section]:
    """The figures of all checkpoints on one list of recordings, then the pictures of each; adds to `pictures`."""
    found, first = looked.found, next(iter(looked.found.values()))
    table = side_by_side.rows(side_by_side.columns(found))
    text = EXPLAINED.format(held=held(first.recordings, first.seconds))
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
            parts.append(Section(f"{name}, on {looked.where}", figures=list(own.values())))
    pictures |= drawn
    return [Section(f"On {looked.where}", text, table, list(drawn.values())), *parts]


def file_name(*parts: str) -> str:
    return "_".join(re.sub(r"[^\w.-]+", "-", part) for part in parts if part)


def with_notes(section: Section, notes: Sequence[str]) -> Section:
    return Section(section.heading, "\n".join([section.text, *notes]), section.table, section.figures)


def steps_sections(
    looked: Mapping[str, Looked], curves: Mapping[str, Any], pictures: dict[str, Figure]
) -> list[Section]:
    """The figures of each list against the step; adds to `pictures`."""
    drawn = {f"{key}_steps": over_steps.analysis_figure(curves["steps"], curves[key]) for key in looked}
    pictures |= drawn
    where = "\n".join(f"{key}: {one.where}" for key, one in looked.items())
    return [Section("Over the steps", where, figures=list(drawn.values()))]


def similarity(looked: Looked, apart: Sequence[str], pictures: dict[str, Figure]) -> list[Section]:
    """CKA between layers."""
    assert looked.similar is not None  # of what was compared
    drawn = side_by_side.cka_figures(looked.similar)
    pictures |= drawn
    text = [ALIKE.format(frames=looked.similar["frames"]), *apart]
    return [Section("Similarity of layers", "\n".join(text), figures=list(drawn.values()))]


def run_sections(folder: Path, pictures: dict[str, Figure], name: str = "") -> list[Section]:
    """Losses, λ and probes over the steps, where the run folder still has its metrics."""
    path = folder / "metrics.jsonl"
    rows = list(read_jsonl(path)) if path.is_file() else []
    if len(rows) < 2:
        return []
    key = file_name(name, "curves")
    pictures[key] = training_curves.curves(rows)
    heading = f"Training of {name}" if name else "Training"
    return [Section(heading, f"{rows[-1]['step']} steps.", figures=[pictures[key]])]
