"""`jepa_speech.analyze`: a look inside checkpoints, side by side, as figures, pictures and one HTML report."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jepa_speech.analysis import over_steps, report, side_by_side
from jepa_speech.analysis.collect import Subject, analyse
from jepa_speech.analysis.recordings import Listed, from_manifest, from_store
from jepa_speech.analysis.subject import missing, open_anchor, wired
from jepa_speech.api.analyze_report import Looked, file_name, sections_of
from jepa_speech.cloud.arguments import takes_buckets, with_urls
from jepa_speech.cloud.folders import pictures_first, read_folder, written_folder
from jepa_speech.errors import UsageError
from jepa_speech.ownership import claim, mark, write_results
from jepa_speech.pretrained.from_bucket import copied_model
from jepa_speech.pretrained.load import load_pretrained
from jepa_speech.probing.saved import Saved, results_of
from jepa_speech.store.store import Store
from jepa_speech.training.checkpoint_steps import Step, as_steps, chosen_checkpoints, located, name_of
from jepa_speech.training.compiled import compiled_once

SECONDS = 20.0  # longer recordings are cut


@takes_buckets("store", "anchor", checkpoint=copied_model, data=read_folder, out=written_folder(pictures_first))
def analyze(
    checkpoint: str | Path | Sequence[str | Path],
    store: str | Path,
    *,
    out: str | Path | None = None,
    step: Step | Sequence[Step] | None = None,
    data: str | Path | None = None,
    root: str | Path | None = None,
    anchor: str | Path | None = None,
    probe: Saved | None = None,
    utterances: int = 100,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Compare checkpoints with their targets and with random labels (docs/reading-curves.md).

    Args:
        checkpoint: one or several run folders, or folders of transformers.
        store: recordings to look at, at most 20 s of each.
        out: a folder, which gets report.html, analysis.json and plots.
        step: which checkpoint of the runs: its step, "latest" or "best"; default: the latest. Several, of one run: all
            figures are also returned and plotted against the step.
        data: a folder of labelled recordings, whose valid split adds the phone figures.
        root: allow recordings of `data` anywhere below this folder; default: only in their input's own folder.
        anchor: the targets' anchor, of all checkpoints, if it was moved since training.
        probe: results of a probe, or their file, whose plots the report shows.
        utterances: how many recordings, drawn by `seed`.
        progress: show bars on stderr.

    Returns what analysis.json holds, plain JSON values. `checkpoints` has the figures by checkpoint and list ("store",
    and "data" if it is given): `figures` of "model", "targets" and "random" (entropies and divergences in nats),
    `effective_rank` of each layer, `recordings`, `seconds`, `frame_rate` (frames per second), `clusters`, `width`.
    `tables` has the same as rows of text, by list; `cka` the similarity of layers; `utterances` and `too_short` the
    recordings by name; `notes` what the checkpoints lack, in words; `over_steps` the figures of several steps; `report`
    the path of the report. The lists of a single checkpoint are keys of the dict, too.

    Raises UsageError for arguments that do not go together, and UserError for inputs that cannot be used.
    """
    checkpoints = [checkpoint] if isinstance(checkpoint, (str, Path)) else list(checkpoint)
    steps, folder = as_steps(step), Path(out) if out else None
    if utterances < 1:
        raise UsageError(f"utterances {utterances}: expected 1 or more")
    if folder:
        claim(folder / "analysis.json", mark("results"))
        claim(folder / "report.html", mark("report"))
    folders = named([source for one in checkpoints for source in chosen_checkpoints(one, steps)])
    if len(checkpoints) > 1 and len(folders) > len(checkpoints):
        raise UsageError("step: several steps are of one run; name one checkpoint, or one step of all of them")
    draw: dict[str, Any] = {"count": utterances, "seed": seed, "seconds": SECONDS, "progress": progress}
    sources = {"store": from_store(Store(store), **draw)}
    models = {name: load_pretrained(path) for name, path in folders.items()}
    probed = results_of(probe) if probe else None
    if data:
        sources = {"data": from_manifest(Path(data), "valid", root=root, **draw)} | sources
    subjects, notes = {}, []
    for name, model in models.items():
        targets, why = open_anchor(model.config, anchor)
        subjects[name] = wired(model, targets, seed)
        notes += [f"{name}: {line}" for line in [*missing(model), why] if line]
    shortest = max(model.objective.min_samples for model in models.values())
    where = {"store": f"{store}", "data": f"{data}, valid split"}
    with compiled_once() if len(models) > 1 else nullcontext():
        looked = {
            name: looked_at(where[name], Listed(source, shortest), subjects, seed, compared=name == "store")
            for name, source in sources.items()
        }

    apart = side_by_side.left_out(looked["store"].found)
    several = len(checkpoints) == 1 and len(folders) > 1
    curves = along_steps(looked, {name: model.step for name, model in models.items()}) if several else {}
    results = summary(looked, [*notes, *apart]) | ({"over_steps": curves} if curves else {})
    if folder:
        results["report"] = with_urls(str(folder / "report.html"))
        runs = {name if len(checkpoints) > 1 else "": run for name, run in runs_of(folders).items()}
        sections, pictures = sections_of(looked, notes, apart, curves, runs, probed)
        report.save_figures(folder, pictures, progress)
        write_results(folder / "analysis.json", results)
        report.write(folder / "report.html", f"Inside {', '.join(folders)}", sections)
    return results


def named(checkpoints: Sequence[str]) -> dict[str, Path]:
    """Returns a unique name for each checkpoint, with its path.

    The name is the run's name, plus -STEP for RUN/checkpoints/STEP, plus parent folders where needed. Names of files
    are unique, too. Raises UsageError for a folder given twice, and if no such name exists.
    """
    paths = [Path(checkpoint).resolve() for checkpoint in checkpoints]
    for i, path in enumerate(paths):
        if path in paths[:i]:
            raise UsageError(f"checkpoint {checkpoints[i]}: the same folder twice; name each once")
    parts = [(*located(path)[0].parent.parts, name_of(path)) for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len({file_name(name) for name in names}) == len(names):
            return dict(zip(names, map(Path, checkpoints), strict=True))
    raise UsageError("checkpoint: two of these checkpoints would get files of the same name; rename one run's folder")


def looked_at(where: str, listed: Listed, subjects: Mapping[str, Subject], seed: int, compared: bool) -> Looked:
    found, ckas = analyse(listed, subjects, seed, compared)
    return Looked(where, listed, found, side_by_side.similarities(ckas, found) if compared else None)


def summary(looked: Mapping[str, Looked], notes: Sequence[str]) -> dict[str, Any]:
    """What analysis.json holds. A single checkpoint's figures are also under the names of the lists."""
    found = looked["store"].found
    results: dict[str, Any] = {
        "checkpoints": {name: {key: look.found[name].summary() for key, look in looked.items()} for name in found},
        "utterances": {key: look.listed.names for key, look in looked.items()},
        "too_short": {key: look.listed.too_short for key, look in looked.items()},
        "cka": looked["store"].similar,
        "tables": {key: side_by_side.rows(side_by_side.columns(look.found)) for key, look in looked.items()},
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


def runs_of(folders: Mapping[str, Path]) -> dict[str, Path]:
    """The runs of checkpoints, each once, by the name of its first one."""
    runs: dict[Path, str] = {}
    for name, folder in folders.items():
        runs.setdefault(located(folder)[0], name)
    return {name: run for run, name in runs.items()}
