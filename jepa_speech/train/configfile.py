"""Configs: from a Python file and overrides to one resolved, typed, written-down dict."""

import dataclasses
import importlib.util
import inspect
import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jepa_speech.config import unknown_key
from jepa_speech.data.checksums import compare_seal, sealed
from jepa_speech.errors import UsageError, UserError
from jepa_speech.files import read_object, write_json
from jepa_speech.path_lists import path_and_rest

PREFIX = "--config."
# What may change when a run goes on: no batch and no update depends on it, but for rounding, where a block is compiled
# otherwise or sums are taken in another order. Stores and anchors may move: their fingerprints stand in `inputs`.
MAY_DIFFER = (
    "data.workers",
    "data.store",
    "data.heldout",
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
    "mesh.data",
    "mesh.fsdp",
    "mesh.rules",
)

SECTIONS = ("data", "anchor", "encoder", "mask", "mixing", "objective", "optim", "train", "mesh")
VALUES = ("seed", "init_from", "encoder.name", "objective.name")
PACKAGE = Path(__file__).parents[1]
# The package's own configs: of a checkout, top-level configs/; of a wheel, the copy that setup.py puts into it.
OURS = (PACKAGE.parent if (PACKAGE.parent / "setup.py").is_file() else PACKAGE) / "configs"
ELSEWHERE = "restore it, or use another --workdir"


def load_config(name: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """The config of `configs/x.py`, or its variant `configs/x.py:NAME`, with `--config.key=value` overrides.

    `x` and `x:NAME` mean the package's own configs, wherever it is installed. An override takes its type from the value
    that it replaces; tuples are written 4.0,8.0.
    Raises UsageError for a missing file or variant, an unknown key, or a value of another type; and, naming file and
    line, if the file cannot be run or makes no whole config.
    """
    file, variant = file_and_variant(name)
    path = config_path(file)
    get_config = imported(path).get_config
    if variant and not inspect.signature(get_config).parameters:
        raise UsageError(f"{file} has no variants, so no {variant!r}: pass --config {file}")
    try:
        inspect.signature(get_config).bind(*([variant] if variant else []))
    except TypeError as error:
        raise UsageError(f"{file}: get_config takes a variant ({error}): pass --config {file}:VARIANT") from error
    with users_code(path):
        config = get_config(*([variant] if variant else []))
    check_whole(config, file)
    for override in overrides:
        key, equals, text = override.removeprefix(PREFIX).partition("=")
        if not equals:
            raise UsageError(f"{override}: write it as {PREFIX}{key}=VALUE")
        set_key(config, key, text)
    return config


def file_and_variant(name: str) -> tuple[str, str]:
    """Splits FILE or FILE:VARIANT; both may hold colons. FILE may be the name of a config of this package.

    Raises UsageError if two files could be meant.
    """

    def is_one(path: str, _: str) -> bool:
        return os.path.isfile(path) or own_config(path) is not None  # noqa: PTH113 (Path.is_file may raise)

    return path_and_rest(name, is_one, "--config")


def config_path(file: str) -> Path:
    """The config file that FILE or NAME of `--config` means; raises UsageError if there is none."""
    if own := own_config(file):
        return own
    if os.path.isfile(file):  # noqa: PTH113 (Path.is_file raises OSError for a name that is too long)
        return Path(file)
    if file.isidentifier():
        raise UsageError(f"{file}: no config has this name; there are {', '.join(own_names())}; a file is {file}.py")
    folder = Path(file).parent if Path(file).parent.is_dir() else Path("configs")
    found = ", ".join(str(p) for p in sorted(folder.glob("*.py"))) or f"none here; by name {', '.join(own_names())}"
    raise UsageError(f"{file}: no such config file; found: {found}")


def own_config(name: str) -> Path | None:
    """The file of the config of this package that has this name, None where there is none."""
    return OURS / f"{name}.py" if name in own_names() else None


def own_names() -> list[str]:
    """The configs of this package."""
    return sorted(path.stem for path in OURS.glob("*.py"))


def imported(path: Path) -> Any:
    """The config file as a module; configs import each other by name (`from base import ...`)."""
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path}: a config is a Python file, whose name ends with .py")
    module = importlib.util.module_from_spec(spec)
    with users_code(path):
        spec.loader.exec_module(module)
    if not callable(getattr(module, "get_config", None)):
        raise UsageError(f"{path}: no function get_config() in it; define one that returns a ConfigDict")
    return module


@contextmanager
def users_code(path: Path) -> Iterator[None]:
    """For blocks that run a config file: it can import others of its folder, and those of this package.

    Any exception becomes a UsageError that names file and line.
    """
    folders = list(dict.fromkeys([path.parent.absolute(), OURS]))
    siblings = {file.stem for folder in folders for file in folder.glob("*.py")}
    hidden = {name: sys.modules.pop(name) for name in siblings & sys.modules.keys()}  # of another folder
    sys.path[:0] = map(str, folders)
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # the file is anyone's code, so it may raise anything
        raise UsageError(blame(path, error)) from error
    finally:
        for folder in folders:
            sys.path.remove(str(folder))
        for name in siblings:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)


def blame(path: Path, error: BaseException) -> str:
    """The line that says where a config file failed: the innermost place in its folder, or in the file itself."""
    where, folder = str(path), path.parent.resolve()
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}:{error.lineno}"
    else:
        frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
        inside = [f"{file}:{line}" for file, line in frames if file.resolve().parent == folder]
        where = inside[-1] if inside else where
    reason = " ".join(str(getattr(error, "msg", None) or error).split())
    mend = "mend the file"
    if isinstance(error, ImportError) and error.name and not error.path:  # not found, or a folder without modules
        mend = f"{error.name} is neither in {path.parent} nor installed; copy the configs that this one imports as well"
    return f"{where}: {type(error).__name__}: {reason}; {mend}"


def check_whole(config: Any, file: str) -> None:
    """Raises UsageError unless `config` is a ConfigDict with all sections, of values that JSON can hold."""
    if not isinstance(config, ConfigDict):
        raise UsageError(f"{file}: get_config() returned {type(config).__name__}; return a ConfigDict")
    for name in SECTIONS:
        if not isinstance(config.get(name), ConfigDict):
            raise UsageError(f"{file}: no section {name} in its config; start from get_config() of configs/base.py")
    for key in VALUES:
        if key not in dict(flat(config)):
            raise UsageError(f"{file}: no key {key} in its config; start from get_config() of configs/base.py")
    for key, value in flat(config):
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"{file}: config key {key} = {value!r}: use numbers, text, booleans and tuples of them"
            ) from error


def set_key(config: ConfigDict, key: str, text: str) -> None:
    known = dict(flat(config))
    if key not in known:
        raise unknown_key(key, known)
    *sections, last = key.split(".")
    section = config
    for name in sections:
        section = section[name]
    section[last] = parse(text, known[key], key)


def parse(text: str, old: Any, key: str) -> Any:
    """`text` as a value of the type of `old`."""
    if isinstance(old, (tuple, list)):
        kind = old[0] if len(old) else 0.0
        return tuple(parse(item.strip(), kind, key) for item in text.strip("()[]").split(",") if item.strip())
    try:
        if isinstance(old, bool):
            return {"true": True, "false": False}[text.lower()]
        return type(old)(text)
    except (KeyError, ValueError, TypeError) as error:
        raise UsageError(f"config key {key} = {text!r}: expected {type(old).__name__}") from error


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf."""
    for key, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has it: dicts, lists, numbers, strings."""
    return json.loads(json.dumps(config.to_dict() if isinstance(config, ConfigDict) else config))


def claim_workdir(
    workdir: Path, config: Mapping[str, Any], sections: Mapping[str, type] | None = None, writes: bool = True
) -> str:
    """Writes config.json, with a checksum; returns a line to print when the run begins, or "".

    sections: name -> dataclass of config sections. A key that one side lacks, since it is older than the key, counts
    as the default there, as does any other key that names nothing (""); the line says so. writes: whether this process
    is the one of several that writes. Raises UserError if the folder holds checkpoints of a run with another config, or
    with none.
    """
    path, ours = workdir / "config.json", dict(flat(plain(config)))
    if any(saved.name.isdigit() for saved in (workdir / "checkpoints").glob("*")):
        theirs = dict(flat(config_of_a_run(path, ELSEWHERE)))
        known = {key: "" for key in ours if key.partition(".")[0] not in (sections or {})} | defaults(sections or {})
        new = {key: value for key, value in known.items() if key in ours.keys() ^ theirs.keys()}
        kept = sorted(key for key, value in new.items() if ours.get(key, value) == theirs.get(key, value))
        for key in sorted(ours.keys() | theirs.keys()):
            if key not in kept and ours.get(key) != theirs.get(key) and key not in MAY_DIFFER:
                raise UserError(
                    f"{workdir} holds a run with {key} = {theirs.get(key)!r}, not {ours.get(key)!r}: "
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


def config_of_a_run(path: Path, mend: str = "restore it") -> dict[str, Any]:
    """Returns what a run's config.json holds, without its checksum; of another program's config.json, all of it.

    Runs of earlier versions have no checksum. Raises UserError, with `mend`, if the file is missing or damaged.
    """
    if not path.exists():
        raise UserError(f"{path} is missing, so the config of the checkpoints beside it is unknown; {mend}")
    try:
        found = read_object(path)
    except UserError as error:
        raise UserError(f"{error}; {mend}") from error
    config = {key: value for key, value in found.items() if key != "crc"}
    if "crc" in found or is_run(found):
        older = {key for key in found if key == "seed" or type(found[key]) is not int}  # no checksum of another name
        try:
            compare_seal(found, older, str(path))
        except UserError as error:
            edited = f'if you edited it on purpose, set "crc": {sealed(config)["crc"]} in it'
            raise UserError(f"{error}; {mend}; {edited}") from error
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
