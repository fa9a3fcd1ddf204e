"""A run folder or a folder of transformers in a bucket: what reading the model needs is fetched into the cache."""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jepa_speech.cloud.cache import cache
from jepa_speech.cloud.mirror import Mirror
from jepa_speech.cloud.objects import Objects
from jepa_speech.local_paths import bucket_url
from jepa_speech.training.checkpoint_steps import Step, as_steps, at_step, best_figure, located, steps_of, was_kept
from jepa_speech.training.checksums import NAME

# What describes a model: files directly in its folder, results of probes, and of checkpoints all but their arrays.
SMALL = re.compile(rf"[^/.][^/]*|(?!checkpoints/)[^/]+/[^/]+\.json|checkpoints/\d+/({NAME}|metrics/.*)")
CHECKPOINT = re.compile(r"checkpoints/(\d+)/.+")


@contextmanager
def copied_model(url: str, given: Mapping[str, Any]) -> Iterator[Path]:
    """Yields the local copy of a model in a bucket (see `takes_buckets`), with the checkpoints that `given` names."""
    yield local_model(url, as_steps(given.get("step")), best=bool(given.get("best")))


@contextmanager
def copied_best_model(url: str, given: Mapping[str, Any]) -> Iterator[Path]:
    """Like `copied_model`, but without a step also with the best checkpoint, if it was kept."""
    yield local_model(url, as_steps(given.get("step")), best=True)


def local_model(source: str | Path, steps: Sequence[Step], best: bool = False) -> Path:
    """Returns a local path as it is, and of a model in a bucket the path of its copy, which is brought up to date.

    source: RUN, RUN/checkpoints/STEP or a folder of transformers. steps: as for `at_step`; without any, the newest is
    fetched, and with `best` also the best one if it was kept. Raises UserError if there is no such step.
    """
    if not (url := bucket_url(str(source))):
        return Path(source)
    run, named = located(url.partition("://")[2])
    objects = Objects(f"{url.partition(':')[0]}://{run}")
    folder = cache().root / "models" / objects.scheme / run
    mirror, place = Mirror(objects, folder), folder if named is None else folder / "checkpoints" / str(named)
    with mirror.updating():
        _bring(objects, mirror, place, list(steps) or ["latest" if named is None else named], best and not steps)
    return place


def _bring(objects: Objects, mirror: Mirror, place: Path, steps: list[Step], best: bool) -> None:
    """Brings what describes a model up to date, with the checkpoints of these steps. The others are only listed."""
    found, folder = objects.list(""), mirror.folder
    saved = {match[1] for name in found if (match := CHECKPOINT.fullmatch(name))}
    # Checksums are uploaded last. Those of earlier versions have none.
    whole = {step for step in saved if f"checkpoints/{step}/{NAME}" in found} or saved
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in found:
            path.unlink()
    for step in {str(step) for step in steps_of(folder)} - whole:
        shutil.rmtree(folder / "checkpoints" / step)
    for step in whole:
        (folder / "checkpoints" / step).mkdir(parents=True, exist_ok=True)
    for name, about in found.items():
        if SMALL.fullmatch(name):
            mirror.bring(name, about)
    if whole and (folder / "config.json").is_file():
        asked = [*steps, "best"] if best and was_kept(folder, best_figure(folder)) else steps
        for path in {at_step(place, step) for step in asked}:
            for name, about in found.items():
                if name.startswith(f"checkpoints/{path.name}/"):
                    mirror.bring(name, about)
