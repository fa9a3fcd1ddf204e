"""Guard a run folder: one process writes at a time, and never over another program's files."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from jepa_speech.errors import UserError
from jepa_speech.files import printable
from jepa_speech.lock import LOCK, locked
from jepa_speech.training.run_json import ELSEWHERE, config_of_a_run, is_run

# The files of a run, and files that identify a folder as a model, an export or a store.
WRITTEN = re.compile(r"checkpoints|tensorboard|loggers|(metrics|events|events-\d+)\.jsonl|stacks-\d+\.txt")
ELSES = re.compile(r".*\.safetensors(\.index\.json)?|pytorch_model.*|store\.json|export\.json|hubconf\.py")
# Orbax's name for a checkpoint whose process was killed while writing it, and the names in a checkpoint.
TEMPORARY = re.compile(r"\d+\.orbax-checkpoint-tmp(-\d+)?")
PARTS = re.compile(r"(weights|progress|metrics|descriptor|\.?checksums\.json|commit_success\.txt|_\w+)(\..*)?")

OF_SYSTEMS = re.compile(r"\.DS_Store|\._.*|\.nfs.*|Thumbs\.db")  # written by file managers and NFS


@contextmanager
def run_folder(workdir: Path, work: str, writes: bool = True) -> Iterator[None]:
    """Holds the lock of a run folder while the block runs, which may write there.

    work: "train", say, for the message to others. writes: whether this process is the one of several that writes; the
    others take no lock. Raises UserError if the folder is another program's, or another process writes there.
    """
    if writes:
        refuse_foreign(workdir)
    with locked(workdir / LOCK, work) if writes else nullcontext():
        if writes:
            remove_unfinished(workdir / "checkpoints")
        yield


def refuse_foreign(workdir: Path) -> None:
    """Raises UserError, before anything is written, if a run would overwrite what is there.

    A new or empty folder, one with logs or notes, and a run folder are fine.
    """
    check_name(workdir)
    if not workdir.exists():
        return
    if not workdir.is_dir():
        raise UserError(f"{workdir} is a file; choose another folder")
    names, config = sorted(path.name for path in workdir.iterdir()), workdir / "config.json"
    if config.name in names or any(saved.name.isdigit() for saved in (workdir / "checkpoints").glob("*")):
        if not is_run(config_of_a_run(config, ELSEWHERE)):
            raise UserError(f"{config} is not the config of a run: choose another folder")
        refuse_strange_checkpoints(workdir / "checkpoints")
    # An empty checkpoints/ is accepted, because another process of this run may just have made it.
    elif there := next((n for n in names if WRITTEN.fullmatch(n) and not is_empty(workdir / n)), None):
        raise UserError(
            f"{workdir} holds {there} but no config.json: choose another folder or, if it is a run's, put its "
            "config.json back"
        )
    elif there := next(filter(ELSES.fullmatch, names), None):
        raise UserError(f"{workdir} holds {there}, so it is not a run folder: choose another folder")


def check_name(workdir: Path) -> None:
    """Raises UserError for a path that is not UTF-8: TensorStore, which writes the arrays, cannot use it."""
    try:
        str(workdir.absolute()).encode()
    except UnicodeEncodeError as error:
        found = printable(str(workdir.absolute()))
        raise UserError(f"{found}: not UTF-8, so no checkpoint can be there; choose or rename a folder") from error


def refuse_strange_checkpoints(checkpoints: Path) -> None:
    """Raises UserError if a checkpoint's folder, which train.keep may delete, holds a file of another program."""
    for folder in checkpoints.glob("*"):
        if not folder.name.isdigit() or not folder.is_dir():
            continue
        strange = (path.name for path in folder.iterdir() if not PARTS.fullmatch(path.name))
        if there := next((name for name in strange if not OF_SYSTEMS.fullmatch(name)), None):
            raise UserError(f"{folder} holds {there}, which is not part of a checkpoint: move it elsewhere")


def is_empty(path: Path) -> bool:
    """Whether this is a folder with nothing in it."""
    return path.is_dir() and not any(path.iterdir())


def remove_unfinished(checkpoints: Path) -> None:
    """Deletes half-written checkpoints of killed processes. Folders that hold anything else are kept."""
    for folder in checkpoints.glob("*.orbax-checkpoint-tmp*"):
        if not TEMPORARY.fullmatch(folder.name) or folder.is_symlink() or not folder.is_dir():
            continue
        if all(PARTS.fullmatch(path.name) for path in folder.iterdir()):
            shutil.rmtree(folder)
