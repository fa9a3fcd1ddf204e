"""The config.json of a run folder: written once, compared when a run resumes, and read by every verb."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jepa_speech.errors import UserError
from jepa_speech.files import read_object, write_json
from jepa_speech.settings.run_config import RunConfig, flat, plain
from jepa_speech.store.checksums import compare_seal, sealed

# What may change when a run resumes: no batch and no update depends on it, but for rounding, where a block is compiled
# otherwise or sums are taken in another order. Data and anchors may move: their fingerprints are in `inputs`.
MAY_DIFFER = (
    "data.workers",
    "data.fetch_ahead",
    "data.store",
    "data.heldout",
    "data.probe",
    "anchor.path",
    "encoder.scan",
    "encoder.remat",
    "train.keep",
    "train.keep_every",
    "train.best",
    "train.accumulate",
    "train.collapse",
    "train.watchdog_seconds",
    "train.stop_seconds",
    "train.loggers",
    "mesh.data",
    "mesh.fsdp",
    "mesh.rules",
)
ELSEWHERE = "restore it, or use another --workdir"


def claim_workdir(
    workdir: Path,
    config: RunConfig | Mapping[str, Any],
    sections: Mapping[str, type] | None = None,
    writes: bool = True,
) -> str:
    """Writes config.json, with a checksum; returns a line to print when the run begins, or "".

    sections: see `differing`. The line names the keys that the folder is older than. writes: whether this process is
    the one of several that writes. Raises UserError if the folder holds checkpoints of a run with another config, or
    with none.
    """
    path, ours = workdir / "config.json", dict(flat(plain(config)))
    if any(saved.name.isdigit() for saved in (workdir / "checkpoints").glob("*")):
        theirs = dict(flat(config_of_a_run(path, ELSEWHERE)))
        other, kept = differing(ours, theirs, sections or {})
        if other:
            raise UserError(
                f"{workdir} holds a run with {other[0]} = {theirs.get(other[0])!r}, not {ours.get(other[0])!r}: "
                "use another --workdir, or that run's config"
            )
        older = ", ".join(key for key in kept if key in ours)
        return (
            f"{workdir} is older than the config keys {older}: the run continues with their defaults" if older else ""
        )
    if not writes:
        return ""
    try:
        write_json(path, sealed(plain(config)))
    except OSError as error:
        raise UserError(f"{workdir}: cannot be written ({error.strerror})") from error
    return ""


def differing(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], sections: Mapping[str, type]
) -> tuple[list[str], list[str]]:
    """Returns the keys by which two flat configs of one run differ, and those that one side lacks and may lack.

    sections: name -> dataclass of config sections. A key that one side lacks, since it is older than the key, counts
    as the default there, as does any other key that names nothing (""). Keys of MAY_DIFFER are passed over.
    """
    known = {key: "" for key in ours if key.partition(".")[0] not in sections} | defaults(sections)
    new = {key: value for key, value in known.items() if key in ours.keys() ^ theirs.keys()}
    kept = sorted(key for key, value in new.items() if ours.get(key, value) == theirs.get(key, value))
    every = sorted(ours.keys() | theirs.keys())
    other = [key for key in every if key not in kept and ours.get(key) != theirs.get(key) and key not in MAY_DIFFER]
    return other, kept


def config_of_a_run(path: Path, fix: str = "restore it") -> dict[str, Any]:
    """Returns what a run's config.json holds, without its checksum; of another program's config.json, all of it.

    Runs of earlier versions have no checksum. Raises UserError, with `fix`, if the file is missing or damaged.
    """
    if not path.exists():
        raise UserError(f"{path} is missing, so the config of the checkpoints beside it is unknown; {fix}")
    try:
        found = read_object(path)
    except UserError as error:
        raise UserError(f"{error}; {fix}") from error
    config = {key: value for key, value in found.items() if key != "crc"}
    if "crc" in found or is_run(found):
        older = {key for key in found if key == "seed" or type(found[key]) is not int}  # no checksum of another name
        try:
            compare_seal(found, older, str(path))
        except UserError as error:
            edited = f'if you edited it on purpose, set "crc": {sealed(config)["crc"]} in it'
            raise UserError(f"{error}; {fix}; {edited}") from error
    return config


def is_run(config: Mapping[str, Any]) -> bool:
    """Whether this is what a run's config.json says."""
    return "seed" in config and isinstance(config.get("train"), Mapping)


def defaults(sections: Mapping[str, type]) -> dict[str, Any]:
    """Dotted key -> default, as JSON has it, of the fields of dataclasses that have one."""
    return {
        f"{name}.{field.name}": plain({"": field.default})[""]
        for name, kind in sections.items()
        for field in dataclasses.fields(kind)
        if field.default is not dataclasses.MISSING
    }
