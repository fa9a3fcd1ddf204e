"""Build uniform argument parsers for commands and their kinds."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any, Protocol

from jepa_speech.local_paths import local_path


class Command(Protocol):
    """What a module of a verb, or of a kind of it, has."""

    HELP: str
    EXAMPLE: str

    def add_arguments(self, parser: argparse.ArgumentParser, /) -> None: ...

    def run(self, options: argparse.Namespace, /) -> dict[str, Any] | None: ...


@dataclass
class Kind:
    """A kind of a verb as a Command, for a module that holds several."""

    HELP: str
    EXAMPLE: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], dict[str, Any]]


def add_command(commands: "argparse._SubParsersAction[Any]", name: str, module: Command) -> argparse.ArgumentParser:
    """A parser with the module's options; every command also takes --json, anywhere on the line."""
    command = commands.add_parser(
        name,
        help=module.HELP,
        description=module.HELP,
        epilog=f"example:\n  {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(command)
    command.add_argument(
        "--json", type=local_path, metavar="FILE", default=argparse.SUPPRESS, help="also write the results as JSON"
    )
    return command


def add_kinds(parser: argparse.ArgumentParser, kinds: Mapping[str, Command]) -> list[argparse.ArgumentParser]:
    """Each kind of a verb as a command below it; which one was chosen is the option `kind`."""
    commands = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    return [add_command(commands, name, module) for name, module in kinds.items()]


def arguments(options: argparse.Namespace, function: Callable[..., Any]) -> dict[str, Any]:
    """Returns the options that a function of the API takes, by their names (tests/api/test_defaults.py)."""
    return {name: value for name, value in vars(options).items() if name in signature(function).parameters}
