"""Go back to an earlier checkpoint: newer ones are moved aside, nothing is deleted."""

import shutil
from itertools import chain, count
from pathlib import Path

import jax

from jepa_speech.errors import UsageError, UserError
from jepa_speech.files import replacing
from jepa_speech.progress import Say
from jepa_speech.training.checkpoint import check_undamaged
from jepa_speech.training.checkpoint_steps import steps_of
from jepa_speech.training.checksums import damage
from jepa_speech.training.distributed import together


def go_back(run: Path, step: int, say: Say) -> None:
    """Makes checkpoint `step` the newest of a run: moves newer ones to RUN/aside/from-<step>/ and copies metrics.jsonl,
    whose rows past `step` are cut when the run resumes, there as well.

    The same command may be repeated, by a scheduler say: a run that already went back to this step continues from its
    newest checkpoint, if that one is whole. Raises UsageError if there is no such checkpoint, UserError if it is
    damaged. To be called by all processes of a run.

    say: called with a line about what was done.
    """
    there = steps_of(run)
    if step not in there:
        known = f"there are {', '.join(map(str, there))}" if there else "it has none"
        raise UsageError(f"from_step {step}: {run} has no such checkpoint; {known}")
    aside, newest, first = run / "aside" / f"from-{step}", there[-1], jax.process_index() == 0
    if aside.is_dir() and newest > step and damage(run / "checkpoints" / str(newest)) is None:
        say(
            f"{run} went back to step {step} before (see {aside}): the run continues from step {newest}, its "
            f"newest checkpoint; to go back once more, rename {aside.name}"
        )
        return
    check_undamaged(run, step, "go back to step {step} with --from-step {step}")
    together("from-step: checked")  # before process 0 moves what the others check
    newer = [other for other in reversed(there) if other > step]
    if first:
        try:
            set_aside(run, newer, aside)
        except OSError as error:
            raise UserError(f"{aside}: cannot be written ({error.strerror})") from error
    moved = ", ".join(map(str, reversed(newer))) or "none"
    say(f"{run} continues from step {step}; newer checkpoints ({moved}) and the old metrics.jsonl are in {aside}")
    together("from-step: moved")


def set_aside(run: Path, steps: list[int], aside: Path) -> None:
    """Moves checkpoints to `aside`, which gets its name only once all are moved."""
    unfinished = aside if aside.is_dir() else aside.with_name(f".{aside.name}")
    unfinished.mkdir(parents=True, exist_ok=True)
    if (metrics := run / "metrics.jsonl").is_file():
        with metrics.open("rb") as rows, replacing(free(unfinished / metrics.name)) as copy:
            shutil.copyfileobj(rows, copy)
    for step in steps:
        (run / "checkpoints" / str(step)).rename(free(unfinished / str(step)))
    if unfinished != aside:
        unfinished.rename(aside)


def free(path: Path) -> Path:
    """Returns the path, or the first of PATH-2, PATH-3, ... that does not exist."""
    names = (path.with_name(f"{path.name}-{number}") for number in count(2))
    return next(name for name in chain([path], names) if not name.exists())
