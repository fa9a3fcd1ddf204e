"""The command line: one file per verb, with its options and what it prints.

Exit codes: 0 done, 1 failed, 2 usage, 75 saved (or a peer was lost): run the same command again.
"""

import argparse
import errno
import gc
import importlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jepa_speech.cli.commands import add_command
from jepa_speech.errors import UsageError, UserError
from jepa_speech.ownership import claim, mark, write_results

VERBS = (
    "prepare",
    "inspect",
    "bench",
    "fit",
    "label",
    "config",
    "plan",
    "train",
    "goodput",
    "launch",
    "evaluate",
    "corpus",
    "probe",
    "compare",
    "analyze",
    "embed",
    "transcribe",
    "import",
    "export",
    "demo",
)

# A disk that is full or may not be written: the user's to fix, wherever it shows. Any other OSError is a defect.
PLACE_IS_WRONG = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG),
    *(errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
)


def parser(verbs: Sequence[str] = VERBS) -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="jepa-speech", description="Train self-supervised speech encoders.")
    commands = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in verbs:
        module = importlib.import_module(f"jepa_speech.cli.{verb}")
        add_command(commands, verb, module).set_defaults(run=module.run, json="")
    return top


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of one command line, `overrides` (--config.KEY=VALUE) among them; argparse's SystemExit if wrong."""
    top = parser([verb for verb in arguments[:1] if verb in VERBS] or VERBS)
    options, rest = top.parse_known_args(arguments)
    takes_overrides = hasattr(options, "config")
    options.overrides = [a for a in rest if takes_overrides and a.startswith("--config.")]
    if unknown := [a for a in rest if a not in options.overrides]:
        top.error(f"unknown argument {unknown[0]}")
    return options


def run(options: argparse.Namespace) -> Any:
    """Runs the verb and returns its results. If the verb fails, --json still gets the results known so far."""
    if options.json and Path(options.json).is_dir():
        raise UsageError(f"--json {options.json} is a folder; name a file")
    if options.json:
        claim(options.json, mark("results"))
    try:
        return options.run(options)
    except UserError as error:
        if options.json and error.results is not None:
            write_results(options.json, {**error.results, "error": str(error)})
        raise


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code. A UserError becomes one line on stderr."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        options = parse(given)
    except SystemExit as stop:  # argparse has printed its line
        return int(stop.code or 0)
    except UserError as error:  # of an option's type
        print(f"jepa-speech {given[0]}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:  # while a verb was imported
        print("jepa-speech: interrupted before the command began; run the same command again", file=sys.stderr)
        return 130
    if arguments is None:  # a process of its own
        gc.freeze()  # imported objects stay, so the collector need not scan them
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # as on stderr: a terminal may not have every character
    try:
        results = run(options)
        if options.json:
            write_results(options.json, results)
    except UserError as error:
        print(f"jepa-speech {options.verb}: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if error.errno not in PLACE_IS_WRONG:
            raise
        fix = "free disk space or choose another place, and run the same command again"
        print(f"jepa-speech {options.verb}: {error.filename or 'disk'}: {error.strerror}; {fix}", file=sys.stderr)
        return UserError.exit_code
    except KeyboardInterrupt:
        print(f"jepa-speech {options.verb}: interrupted; run the same command to resume", file=sys.stderr)
        return 130
    return 0
