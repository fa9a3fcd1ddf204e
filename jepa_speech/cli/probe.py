"""jepa-speech probe: what does a frozen representation know, as far as a linear classifier can tell?"""

import argparse
from contextlib import ExitStack
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import jepa_speech
from jepa_speech import partial
from jepa_speech.analysis import over_steps, report
from jepa_speech.cli import language_model
from jepa_speech.cli import root_option as root
from jepa_speech.cli.step_option import add_steps
from jepa_speech.errors import UsageError
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.ownership import claim, mark, write_results
from jepa_speech.pretrained import fingerprint
from jepa_speech.pretrained.load import load_pretrained, untrained
from jepa_speech.probe import evaluate, result_plots
from jepa_speech.probe.baselines import BASELINES, baseline
from jepa_speech.probe.cache import Cache
from jepa_speech.probe.extract import Extract, on_grid
from jepa_speech.probe.saved import read_results
from jepa_speech.settings.run_config import RunConfig
from jepa_speech.train.checkpoint_steps import chosen_checkpoints, located, name_of
from jepa_speech.train.compiled import compiled_once
from jepa_speech.train.configfile import file_and_variant, load_config, own_config

HELP = "test what frozen features know: phones, words, speakers, emotions, intents, slots, ABX"
EXAMPLE = "jepa-speech probe --checkpoint RUN --data DIR --tasks phones,speaker --out results"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="RUN",
        help=f"a run folder, one of transformers, or one of: {', '.join(BASELINES)}, random (an untrained encoder)",
    )
    add_steps(parser)
    parser.add_argument("--data", required=True, metavar="DIR", help="labelled recordings; see docs/probing.md")
    root.add_argument(parser)
    parser.add_argument("--tasks", default="phones", help=f"some of {', '.join(evaluate.TASKS)} (default: phones)")
    parser.add_argument("--out", required=True, metavar="DIR", help="gets NAME.json and plots in NAME/")
    parser.add_argument("--name", help="what to call the system (default: the folder's name); --step adds -STEP to it")
    parser.add_argument("--like", metavar="RUN", help="for random: the run, or config file, whose architecture to take")
    parser.add_argument("--seed", type=int, default=0, help="of the classifier, and of the random encoder")
    parser.add_argument(
        "--against", nargs="+", default=[], metavar="FILE", help="results to compare with, in pairs (its seeds)"
    )
    parser.add_argument(
        "--cache",
        metavar="DIR",
        help="keeps features there, for further tasks and runs (at most 32 GiB; else none are)",
    )
    parser.add_argument(
        "--pool", nargs="+", default=[], metavar="FILE", help="results of further seeds of this same system"
    )
    language_model.add_arguments(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    tasks = args.tasks.split(",")
    by_task, beam = evaluate.chosen_tasks(tasks), language_model.chosen(args)
    if beam and "asr" not in tasks:
        raise UsageError("--lm is for words: it needs the task asr")
    recipes = {"asr": replace(by_task["asr"].RECIPE, beam=beam)} if beam else None
    checkpoints, folder = of_each_step(args), Path(args.out)
    others, pooled = ([read_results(path) for path in paths] for paths in (args.against, args.pool))
    names = {checkpoint: named(args, checkpoint) for checkpoint in checkpoints}
    for name in names.values():
        claim(folder / f"{name}.json", mark("results"))
        for task, kind in product(tasks, result_plots.KINDS):
            claim(folder / name / f"{task}_{kind}.png", mark("picture"))
    with ExitStack() as until_all_are_done:
        if len(checkpoints) > 1:
            until_all_are_done.enter_context(compiled_once())
        results = []
        for checkpoint, name in names.items():
            found = system(checkpoint, args.like, args.seed)
            ways = {task: asdict((recipes or {}).get(task, module.RECIPE)) for task, module in evaluate.TASKS.items()}
            job = fingerprint.of_values(found.fingerprint, args.seed, ways)
            kept = until_all_are_done.enter_context(partial.kept(folder / f"{name}.probe.partial", job))
            cache = Cache(args.cache, found.fingerprint) if args.cache else None
            results.append(
                evaluate.probe(
                    name, found.extract, args.data, tasks, args.seed, recipes, cache=cache, kept=kept, root=args.root
                )
            )
            results[-1] |= {"checkpoint": args.checkpoint} | ({} if found.step is None else {"step": found.step})
            finish(results[-1], args, tasks, others, pooled)
        return results[0] if len(results) == 1 else finish_steps(results, args)


def of_each_step(args: argparse.Namespace) -> list[str]:
    """--checkpoint, or RUN/checkpoints/STEP of each --step."""
    if args.step and args.checkpoint in (*BASELINES, "random"):
        raise UsageError(f"--step {args.step[0]} goes with a run folder, not with --checkpoint {args.checkpoint}")
    checkpoints = chosen_checkpoints(args.checkpoint, args.step)
    if args.pool and len(checkpoints) > 1:
        raise UsageError("--pool holds results of further seeds of one system: probe one --step with it")
    return checkpoints


def named(args: argparse.Namespace, checkpoint: str) -> str:
    """--name, or the system's own; --step is behind both, so that two steps of a run never share a file."""
    if not args.name:
        return checkpoint if checkpoint in (*BASELINES, "random") else name_of(checkpoint)
    return f"{args.name}-{located(checkpoint)[1]}" if args.step else args.name


def finish(
    results: dict[str, Any],
    args: argparse.Namespace,
    tasks: list[str],
    others: list[dict[str, Any]],
    pooled: list[dict[str, Any]],
) -> None:
    """Prints and writes the results, compared with others where those are given, and their plots."""
    print(evaluate.text(evaluate.table([*pooled, results])))
    if any(len(part["heads"]) > 1 for part in results["tasks"].values()):
        print("* chosen on the validation split")
    if others:
        results["against"] = {}
        for task in tasks:
            difference = evaluate.compare([results, *pooled], others, task)
            results["against"][task] = {"system": others[0]["name"], **difference.as_json()}
            runs = f", {1 + len(pooled)} runs against {len(others)}" if pooled or others[1:] else ""
            figure, better = next(iter(results["tasks"][task]["figures"].items()))
            less = f", {figure}: less is better" if better == "lower" else ""
            print(f"{task}: {results['name']} - {others[0]['name']} = {difference} points (paired{runs}{less})")
    folder = Path(args.out)
    write_results(folder / f"{results['name']}.json", results)
    report.save_figures(folder / results["name"], result_plots.of_results(results))
    print(f"written: {folder / results['name']}.json, plots in {folder / results['name']}/")


def finish_steps(results: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Prints, writes and draws the figures of several steps of a run against the step; returns what it writes."""
    name, by_step = args.name or name_of(args.checkpoint), {one["step"]: one for one in results}
    folder, curves = Path(args.out) / name, over_steps.of_probes(by_step)
    about = {"name": name, "checkpoint": args.checkpoint, "data": results[0]["data"], "seed": args.seed}
    drawn = {f"{task}_steps": over_steps.probe_figure(task, curves["steps"], c) for task, c in curves["tasks"].items()}
    print("\n" + evaluate.text(over_steps.table(by_step)))
    write_results(folder / "steps.json", about | curves)
    report.save_figures(folder, drawn)
    print(f"written: {folder / 'steps.json'} and {', '.join(f'{picture}.png' for picture in drawn)} beside it")
    return about | curves


class System(NamedTuple):
    """What is probed. Its features change only if its fingerprint does."""

    extract: Extract
    fingerprint: str
    step: int | None = None  # of a checkpoint


def system(checkpoint: str, like: str | None, seed: int) -> System:
    """What --checkpoint asks for. Wiring of checkpoints happens here alone."""
    if checkpoint in BASELINES:
        return System(baseline(checkpoint), f"{checkpoint}-{jepa_speech.__version__}")
    if checkpoint == "random":
        if not like:
            raise UsageError(
                "--checkpoint random needs --like RUN: the run, or config file, whose architecture to take"
            )
        model, step = untrained(architecture(like), seed), None
    else:
        model = load_pretrained(checkpoint)
        step = model.step

    def extract(wave: np.ndarray, sample_rate: int) -> list[np.ndarray]:
        found = model.represent(wave, sample_rate)
        return on_grid(found.layers, found.frame_rate, len(wave) * SAMPLE_RATE // sample_rate)

    return System(extract, fingerprint.of_model(model), step)


def architecture(like: str) -> RunConfig:
    """The config of a run folder, or of what `train --config` takes (configs/x.py, configs/x.py:NAME, x:NAME)."""
    file = file_and_variant(like)[0]
    is_config = not Path(like).is_dir() and (Path(file).suffix == ".py" or own_config(file) is not None)
    return load_config(like) if is_config else load_pretrained(like).config
