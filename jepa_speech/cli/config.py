"""jepa-speech config: print a config of this package, to copy and change."""

import argparse
import ast
import sys
from typing import Any

from jepa_speech.errors import UsageError
from jepa_speech.training.configfile import own_config, own_names

HELP = "print a config of this package, to copy and change; without a name, list them"
EXAMPLE = "jepa-speech config smoke"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="such as smoke; --config smoke trains with the original"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Prints the file as it is; returns its path, or the first line about each config by name."""
    if options.name is None:
        paths = {name: own_config(name) for name in own_names()}
        about = {name: first_line(path.read_text(encoding="utf-8")) for name, path in paths.items() if path}
        print("\n".join(f"{name:<18}{line}" for name, line in about.items()))
        return {"configs": about}
    path = own_config(options.name)
    if path is None:
        known = ", ".join(own_names())
        raise UsageError(
            f"{options.name}: no config has this name (variants have none of their own); there are {known}"
        )
    sys.stdout.write(path.read_text(encoding="utf-8"))
    return {"file": str(path)}


def first_line(text: str) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
