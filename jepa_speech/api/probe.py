"""`jepa_speech.probe`: measure what a linear classifier can read from frozen features."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

from jepa_speech import partial
from jepa_speech.analysis import over_steps, report
from jepa_speech.api.probed import WITHOUT_STEPS, probed
from jepa_speech.cloud.arguments import takes_buckets, with_urls
from jepa_speech.cloud.folders import pictures_first, read_file, read_folder, written_folder
from jepa_speech.errors import UsageError
from jepa_speech.ownership import claim, mark, write_results
from jepa_speech.partial import Pieces
from jepa_speech.pretrained import fingerprint
from jepa_speech.pretrained.from_bucket import copied_model
from jepa_speech.probing import evaluate, result_plots
from jepa_speech.probing.at_once import AT_ONCE
from jepa_speech.probing.cache import Cache
from jepa_speech.probing.evaluate import Results
from jepa_speech.probing.saved import Saved, results_of
from jepa_speech.text.beam import Beam, beam_of
from jepa_speech.training.checkpoint_steps import Step, as_steps, chosen_checkpoints, located, name_of
from jepa_speech.training.compiled import compiled_once


@takes_buckets(
    checkpoint=copied_model,
    data=read_folder,
    out=written_folder(pictures_first),
    against=read_file,
    pool=read_file,
)
def probe(
    checkpoint: str | Path,
    data: str | Path,
    tasks: str | Sequence[str] = "phones",
    *,
    out: str | Path | None = None,
    step: Step | Sequence[Step] | None = None,
    root: str | Path | None = None,
    name: str | None = None,
    like: str | Path | None = None,
    seed: int = 0,
    against: Sequence[Saved] = (),
    pool: Sequence[Saved] = (),
    cache: str | Path | None = None,
    lm: str | Path | None = None,
    beam: int = Beam.size,
    lm_weight: float = Beam.lm_weight,
    word_score: float = Beam.word_score,
    each: Callable[[Results], object] | None = None,
    progress: bool = False,
) -> Results:
    """Probe every layer of frozen features and their weighted sum, with 95% intervals (docs/probing.md).

    Args:
        checkpoint: a run folder, one of transformers, a baseline ("logmel", "logmel5", "mfcc", "mfcc5", "mfcc100") or
            "random" (an untrained encoder).
        data: a folder of labelled recordings.
        tasks: some of `jepa_speech.probing.evaluate.TASKS`, as a sequence or separated by commas.
        out: a folder, which gets NAME.json and plots in NAME/. The same call resumes after a kill.
        step: which checkpoint of the run: its step, "latest" or "best"; default: the latest. Several: each is probed,
            and all figures are plotted against the step.
        root: allow recordings anywhere below this folder; default: only in their input's own folder.
        name: of the results; default: that of the folder. With `step`, -STEP is added.
        like: for "random": the run, or config file, whose architecture to take.
        seed: of the classifiers, and of the random encoder.
        against: results, or their files, of another system's seeds: their differences get paired intervals.
        pool: results, or their files, of further seeds of this system, for `against`.
        cache: a folder that keeps features for further tasks and calls, at most 32 GiB.
        lm, beam, lm_weight, word_score: for the task "asr", see `transcribe`.
        each: called with the results of every step once they are known and written.
        progress: show bars on stderr.

    Returns what NAME.json holds, plain JSON values: `name`, `checkpoint`, `step` (of a run), `data`, `seed`, `recipe`
    and `tasks`. For each task, `test` has the figures of the head that is best on valid, as `value`, `low` and `high`
    (shares from 0 to 1, or None without any reference), `chosen` its name, `heads` the figures of all of them, and
    `chance` the accuracy of always answering the commonest class (1/2 for pairs); `jepa_speech.probing.evaluate`
    describes all fields. With `against`, `against` has the differences by task. For several steps, what NAME/steps.json
    holds: `steps`, and by task and figure the `value`, `low`, `high` and `head` of each.

    Raises UsageError for arguments that do not go together, and UserError for a checkpoint or data that cannot be used.
    """
    chosen = tasks.split(",") if isinstance(tasks, str) else list(tasks)
    recipes = {task: module.RECIPE for task, module in evaluate.chosen_tasks(chosen).items()}
    if how := beam_of(lm, beam, lm_weight, word_score):
        if "asr" not in chosen:
            raise UsageError("lm is for words: it needs the task asr")
        recipes["asr"] = replace(recipes["asr"], beam=how)
    steps = as_steps(step)
    checkpoints = of_each_step(str(checkpoint), steps, pool)
    others, pooled = ([results_of(one) for one in many] for many in (against, pool))
    names = {source: named(source, name, steps) for source in checkpoints}
    folder = Path(out) if out else None
    for path in files_of(folder, list(names.values()), chosen) if folder else ():
        claim(path, mark("picture" if path.suffix == ".png" else "results"))
    by_step: dict[int, Results] = {}
    with ExitStack() as until_all_are_done:
        until_all_are_done.enter_context(compiled_once())
        for source, called in names.items():
            system = probed(source, like, seed)
            ways = {task: asdict(recipes.get(task, module.RECIPE)) for task, module in evaluate.TASKS.items()}
            job = fingerprint.of_values(system.fingerprint, seed, ways)
            kept = until_all_are_done.enter_context(pieces(folder, called, job))
            features = Cache(cache, system.fingerprint) if cache else None
            results = evaluate.probe_features(
                called, system.extract, data, chosen, seed, recipes, progress, features, kept, root, AT_ONCE
            )
            results["checkpoint"] = with_urls(str(checkpoint))
            results |= {} if system.step is None else {"step": system.step}
            if others:
                results["against"] = {task: compared([results, *pooled], others, task) for task in chosen}
            if folder:
                write_results(folder / f"{called}.json", results)
                report.save_figures(folder / called, result_plots.of_results(results), progress)
            if each:
                each(results)
            by_step[system.step or 0] = results
        if len(by_step) == 1:
            return results
        return along_steps(by_step, name or name_of(checkpoint), folder, progress)


def of_each_step(checkpoint: str, steps: Sequence[Step], pool: Sequence[Saved]) -> list[str]:
    """`checkpoint`, or RUN/checkpoints/STEP of each step."""
    if steps and checkpoint in WITHOUT_STEPS:
        raise UsageError(f"step {steps[0]} goes with a run folder, not with checkpoint {checkpoint}")
    checkpoints = chosen_checkpoints(checkpoint, steps)
    if pool and len(checkpoints) > 1:
        raise UsageError("pool holds results of further seeds of one system: probe one step with it")
    return checkpoints


def named(source: str, name: str | None, steps: Sequence[Step]) -> str:
    """Returns `name`, or the system's own. -STEP is appended, so that two steps of a run never share a file."""
    if not name:
        return source if source in WITHOUT_STEPS else name_of(source)
    return f"{name}-{located(source)[1]}" if steps else name


def files_of(folder: Path, names: Sequence[str], tasks: Sequence[str]) -> list[Path]:
    """What is written, but for the plots over several steps."""
    plots = [folder / name / f"{task}_{kind}.png" for name, task, kind in product(names, tasks, result_plots.KINDS)]
    return [*(folder / f"{name}.json" for name in names), *plots]


def pieces(folder: Path | None, name: str, job: str) -> AbstractContextManager[Pieces | None]:
    """Returns the tasks that are done, so that a call resumes after a kill."""
    return partial.kept(folder / f"{name}.probe.partial", job) if folder else nullcontext()


def compared(ours: Sequence[Results], theirs: Sequence[Results], task: str) -> Results:
    return {"system": theirs[0]["name"], **evaluate.compare(ours, theirs, task).as_json()}


def along_steps(by_step: Mapping[int, Results], name: str, folder: Path | None, progress: bool) -> Results:
    """Writes and draws the figures of several steps of a run against the step; returns what steps.json holds."""
    first, curves = next(iter(by_step.values())), over_steps.of_probes(by_step)
    results = {"name": name, **{key: first[key] for key in ("checkpoint", "data", "seed")}} | curves
    if folder:
        tasks = curves["tasks"].items()
        drawn = {f"{task}_steps": over_steps.probe_figure(task, curves["steps"], one) for task, one in tasks}
        write_results(folder / name / "steps.json", results)
        report.save_figures(folder / name, drawn, progress)
    return results
