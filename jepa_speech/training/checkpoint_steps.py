"""Which checkpoints a run has, by their steps, and which one of them is meant."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jepa_speech import checked
from jepa_speech.errors import UsageError, UserError
from jepa_speech.files import parse_row, read_json, read_object
from jepa_speech.training.checksums import damage
from jepa_speech.training.run_json import config_of_a_run

Step = int | Literal["latest", "best"]


def located(source: str | Path) -> tuple[Path, int | None]:
    """(run folder, step) of RUN/checkpoints/STEP; (RUN, None) of RUN."""
    path = Path(source)
    if path.parent.name == "checkpoints" and path.name.isdecimal() and not (path / "checkpoints").is_dir():
        return path.parent.parent, int(path.name)
    return path, None


def name_of(source: str | Path) -> str:
    """A name for RUN (its folder's) or RUN/checkpoints/STEP (with the step behind it)."""
    run, step = located(Path(source).resolve())
    return run.name if step is None else f"{run.name}-{step}"


def steps_of(run: Path) -> list[int]:
    """The steps of a run's checkpoints, in ascending order, damaged ones included."""
    folder = run / "checkpoints"
    names = (path.name for path in folder.glob("*") if path.name.isdecimal() and path.is_dir())
    return sorted(int(name) for name in names if name == str(int(name)))


def known_steps(run: Path) -> list[int]:
    """As `steps_of`. Raises UserError if there is none."""
    if not (run / "checkpoints").is_dir():
        raise UserError(f"{run}: not a run folder (no checkpoints/ in it)")
    if not (there := steps_of(run)):
        raise UserError(f"{run}: has no whole checkpoint yet; train it first")
    return there


def check_there(run: Path, step: int, there: list[int]) -> None:
    """Raises UserError, which lists the steps there are, if the run has no checkpoint of `step`."""
    if step not in there:
        raise UserError(f"{run}: has no checkpoint of step {step}; choose one of {', '.join(map(str, there))}")


def at_step(source: str | Path, step: Step) -> Path:
    """RUN/checkpoints/STEP of RUN: of the step of this number, of the newest ("latest"), or of the best one ("best").

    source: RUN, or RUN/checkpoints/STEP of that same step. The best is the checkpoint that is lowest in `best_figure`
    by metrics.jsonl, the newest of equal ones.

    Raises UserError, which lists the steps there are, if there is no such checkpoint, and UsageError if `step` is none
    of these or `source` names another one.
    """
    if step not in ("latest", "best") and (type(step) is not int or step < 0):
        raise UsageError(f'step {step!r}: the number of a step, "latest" or "best"')
    run, named = located(source)
    there = known_steps(run)
    if step == "latest":
        number = there[-1]
    elif step == "best":
        number = _best_of(run, there)
    else:
        check_there(run, number := step, there)
    if named not in (None, number):
        raise UsageError(f"{source} names a step already, and step {step} is another one: leave one of the two out")
    return run / "checkpoints" / str(number)


def chosen_checkpoint(source: str | Path, step: Step | None) -> str:
    """RUN/checkpoints/STEP as `at_step` gives it; `source` as it is without a step."""
    return str(source if step is None else at_step(source, step))


def as_steps(step: Step | Sequence[Step] | None) -> list[Step]:
    """One step, several or none as a list."""
    return [step] if isinstance(step, (int, str)) else list(step or [])


def chosen_checkpoints(source: str | Path, steps: Sequence[Step]) -> list[str]:
    """As `chosen_checkpoint`, of several steps: in ascending order, each once; `source` as it is without any."""
    if not steps:
        return [str(source)]
    paths = {at_step(source, step) for step in steps}
    return [str(path) for path in sorted(paths, key=lambda path: int(path.name))]


def best_figure(run: Path) -> str:
    """The figure in which the best checkpoint is the lowest: the run's `train.best`, or else a held-out loss.

    That is heldout_loss, or heldout_cluster if λ, which weighs the terms of the loss, changed between the checkpoints
    (objective gmm_jepa): a loss falls with λ, whatever the model learns.
    """
    path = run / "config.json"
    train = checked.field(config_of_a_run(path), "train", dict, str(path), default={})
    if best := checked.field(train, "best", str, f"{path}: train", default=""):
        return best
    return "heldout_cluster" if len(set(figures_of(run, "heldout_lambda").values())) > 1 else "heldout_loss"


def _best_of(run: Path, there: list[int]) -> int:
    figure = best_figure(run)
    if (step := best_step(run, figure)) is None:
        raise UserError(
            f"{run}: no checkpoint is known as the best, because metrics.jsonl has no {figure} at their steps (train "
            f"with data.heldout to have it); choose one of {', '.join(map(str, there))}, or latest"
        )
    return step


def best_step(run: str | Path, figure: str) -> int | None:
    """The step of the checkpoint with the lowest `figure`, the newest of equal ones; None where none has the figure.

    Raises UserError if the figures of a checkpoint, or a line of metrics.jsonl, are damaged.
    """
    if not figure:
        return None
    check_figures(Path(run))
    found = figures_of(Path(run), figure)
    return min(found, key=lambda step: (found[step], -step), default=None)


def was_kept(run: Path, figure: str) -> bool:
    """Whether `train.best` = figure chose among the checkpoints when they were saved.

    Raises UserError if the figures of a checkpoint are damaged.
    """
    if not figure:
        return False
    check_figures(run)
    return any(figure in saved_figures(run, step) for step in steps_of(run))


def figures_of(run: Path, figure: str) -> dict[int, float]:
    """A figure by the steps of a run's checkpoints: what was saved with them (`train.best`), or else the one of
    metrics.jsonl. Steps without it, or where it is not finite, are left out.
    """
    there = steps_of(run)
    found: dict[int, Any] = {step: saved_figures(run, step).get(figure) for step in there}
    path = run / "metrics.jsonl"
    if None in found.values() and path.is_file():
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                # Most lines are of other figures. The last may be half-written, because training continues.
                if f'"{figure}"'.encode() in line and line.endswith(b"\n"):
                    row = parse_row(line, f"{path}:{number}")
                    if type(step := row.get("step")) is int and found.get(step, 0) is None:
                        found[step] = row.get(figure)
    return {step: x for step, x in found.items() if type(x) in (int, float) and math.isfinite(x)}


def saved_figures(run: Path, step: int) -> dict[str, Any]:
    """The figures that a checkpoint was saved with; none without `train.best`."""
    path = run / "checkpoints" / str(step) / "metrics" / "metrics"
    return read_object(path) if path.is_file() else {}


def check_figures(run: Path) -> None:
    """Raises UserError if the figures of any checkpoint, which decide which ones stay, are damaged."""
    for step in steps_of(run):
        folder = run / "checkpoints" / str(step)
        if wrong := damage(folder, part="metrics/"):
            raise UserError(f"{folder} is damaged: {wrong}; copy it again, or move it away")
        if (figures := folder / "metrics" / "metrics").is_file():  # orbax reads all of them, with or without checksums
            read_json(figures)
