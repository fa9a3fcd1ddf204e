"""Results of finished runs of `compare`, as small files that stand for the runs: OUT/results/BUDGET/NAME-SEED.json.

A file names what its run was made from, without paths. It can be committed, and a later call on any machine takes it
in place of the run. It is also a results file of `jepa-speech probe`, of the chosen heads alone.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jepa_speech
from jepa_speech import checked
from jepa_speech.api.workflow import files_of
from jepa_speech.errors import UserError
from jepa_speech.files import write_text
from jepa_speech.ownership import claim, mark
from jepa_speech.probing.saved import read_results
from jepa_speech.settings.run_config import flat
from jepa_speech.training.run_json import differing

Results = dict[str, Any]
KEPT = ("figures", "chosen", "chance", "layer_weights", "sizes")  # of a task


def read(path: Path, made_from: Mapping[str, Any], sections: Mapping[str, type]) -> Results:
    """Returns the results in a file; without one, those of a run of which nothing is known.

    sections: those of the config in made_from: a key that the config or the file lacks counts as its default. Raises
    UserError if the file is damaged, or was made from anything else.
    """
    if not path.exists():
        return {"training": {}, "data": {}, "tasks": {}}
    found = read_results(path)
    theirs = checked.field(found, "made_from", dict, str(path))
    for name in ("training", "data"):
        checked.field(found, name, dict, str(path))
    ours, its = (dict(flat(one.get("config", {}))) for one in (made_from, theirs))
    other = [f"the config key {key}" for key in differing(ours, its, sections)[0]]
    other += [key for key in made_from if key != "config" and made_from[key] != theirs.get(key)]
    if other:
        raise UserError(
            f"{path} was made from another run ({', '.join(other)}): remove it to run that one again, or choose "
            "another out"
        )
    return found


def write(path: Path, made_from: Mapping[str, Any], results: Results) -> None:
    """Writes results in one line, atomically."""
    about = {"about": mark("results"), "version": jepa_speech.__version__, "name": path.stem, "made_from": made_from}
    text = json.dumps(about | results, ensure_ascii=False, separators=(",", ":"))
    write_text(claim(path, mark("results")), f"{text}\n")


def trimmed(part: Mapping[str, Any]) -> Results:
    """Returns a task's results without what no table needs: the counts of heads that were not chosen, and pictures."""
    heads = {name: dict(head) for name, head in part["heads"].items()}
    for name, head in heads.items():
        if name != part["chosen"]:
            figures = head["figures"].items()
            head["figures"] = {key: {k: v for k, v in one.items() if k != "counts"} for key, one in figures}
    return {key: part[key] for key in KEPT if key in part} | {"heads": heads}


def digest_of(folder: Path, root: str | Path | None) -> str:
    """Returns a digest of labelled recordings: the names and contents of their files, wherever the folder is."""
    digest = hashlib.sha256()
    for name, file in sorted(named(files_of([folder], root), folder)):
        with file.open("rb") as opened:
            digest.update(f"{name}\n{hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode("utf-8", "replace"))
    return digest.hexdigest()[:32]


def named(files: Iterable[Path], folder: Path) -> Iterable[tuple[str, Path]]:
    """Yields each file that exists, with its path in the folder, or outside it with its name."""
    for file in set(files):
        if file.is_file():
            inside = file.resolve().is_relative_to(folder.resolve())
            yield file.resolve().relative_to(folder.resolve()).as_posix() if inside else file.name, file
