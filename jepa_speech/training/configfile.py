"""Configs: from a Python file and overrides to one resolved, typed, written-down dict."""

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
from jepa_speech.errors import UsageError, UserError
from jepa_speech.local_paths import not_local, takes_local_paths
from jepa_speech.objectives import parsed
from jepa_speech.path_lists import path_and_rest
from jepa_speech.settings.run_config import RunConfig, flat, plain
from jepa_speech.settings.training import AUX_STATE, OLDER_AUX_STATE
from jepa_speech.training.run_json import config_of_a_run

__all__ = ["config_of_a_run", "load_config"]  # what configs import

PREFIX = "--config."
Overrides = Mapping[str, Any] | Sequence[str]
SECTIONS = ("data", "anchor", "encoder", "mask", "mixing", "objective", "optim", "train", "mesh")
VALUES = ("seed", "init_from", "encoder.name", "objective.name")
IN_BUCKETS = ("data.store", "data.heldout", "anchor.path")  # keys whose paths may be gs:// or s3://
OLDER_NAME = "jepa_speech.train.configfile"  # of this module before December 2026; users' configs may import it
PACKAGE = Path(__file__).parents[1]
# The package's own configs: of a checkout, top-level configs/; of a wheel, the copy that setup.py puts into it.
OURS = (PACKAGE.parent if (PACKAGE.parent / "setup.py").is_file() else PACKAGE) / "configs"


@takes_local_paths
def load_config(name: str | Path, overrides: Overrides = ()) -> RunConfig:
    """The typed config of a file or a name, with `overrides`: see `config_dict`.

    Raises UsageError as that does, and as `objectives.parsed` does.

    Prints a line about an older name that the config uses.
    """
    config = parsed(config_dict(str(name), overrides).to_dict())
    if older := [rule for rule in config.mesh.rules if rule.startswith(OLDER_AUX_STATE)]:
        print(f"config key mesh.rules: {older[0]!r}: {OLDER_AUX_STATE} is named {AUX_STATE} now", file=sys.stderr)
    return with_local_paths(config)


def run_config_of(config: RunConfig | str | Path, overrides: Overrides) -> RunConfig:
    """Return a RunConfig as it is, or the config of a file or a name (see `load_config`).

    Raises UsageError for overrides of a RunConfig, and for a URL in it.
    """
    if not isinstance(config, RunConfig):
        return load_config(config, overrides)
    if overrides:
        raise UsageError("overrides: only for a config by its file or name; change a RunConfig by dataclasses.replace")
    return with_local_paths(config)


def with_local_paths(config: RunConfig) -> RunConfig:
    """Returns the config. Raises UsageError for a URL in place of a path; stores may be in buckets.

    The config of a trained run is not checked, because its paths are not needed to open its checkpoints.
    """
    for key, value in flat(plain(config)):
        if isinstance(value, str) and (wrong := not_local(value, key in IN_BUCKETS)):
            raise UsageError(f"config key {key}: {wrong}")
    return config


def config_dict(name: str, overrides: Overrides = ()) -> ConfigDict:
    """The config of `configs/x.py`, or its variant `configs/x.py:NAME`, with some keys changed.

    `x` and `x:NAME` mean the package's own configs, wherever it is installed. overrides: {"data.store": "STORE"}, or
    the arguments ["--config.data.store=STORE"]. An override takes its type from the value that it replaces; in text,
    tuples are written 4.0,8.0.
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
    for key, text in texts_by_key(overrides):
        set_key(config, key, text)
    return config


def texts_by_key(overrides: Overrides) -> Iterator[tuple[str, str]]:
    """(key, value as text) of each override. Raises UsageError for a value that no key can have."""
    if isinstance(overrides, str):
        raise UsageError(f"overrides = {overrides!r}: pass a mapping, {{'data.store': 'STORE'}}, or a list")
    if isinstance(overrides, Mapping):
        yield from ((key, as_text(value, key)) for key, value in overrides.items())
        return
    for override in overrides:
        key, equals, text = override.removeprefix(PREFIX).partition("=")
        if not equals:
            raise UsageError(f"{override}: write it as {PREFIX}{key}=VALUE")
        yield key, text


def as_text(value: Any, key: str) -> str:
    """Return the text that `parse` reads as `value`."""
    if isinstance(value, (tuple, list)):
        return ",".join(as_text(item, key) for item in value)
    if not isinstance(value, (str, int, float, Path)):
        raise UsageError(f"config key {key} = {value!r}: use numbers, text, booleans and tuples of them")
    return str(value)


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
    if OLDER_NAME in path.read_text(encoding="utf-8", errors="replace"):
        print(f"{path}: {OLDER_NAME} is named {__name__} now", file=sys.stderr)
        sys.modules.setdefault(OLDER_NAME, sys.modules[__name__])
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
    fix = "fix the file"
    if isinstance(error, ImportError) and error.name and not error.path:  # not found, or a folder without modules
        fix = f"{error.name} is neither in {path.parent} nor installed; copy the configs that this one imports as well"
    return f"{where}: {type(error).__name__}: {reason}; {fix}"


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
