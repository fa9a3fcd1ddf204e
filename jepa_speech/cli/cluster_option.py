"""`--cluster ADDRESS`, for verbs whose parts can run on several machines."""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jepa_speech.cli.cluster_parts import local_workers, run_parts
from jepa_speech.cli.commands import arguments
from jepa_speech.errors import UsageError
from jepa_speech.ingest.parallel import cores
from jepa_speech.local_paths import bucket_url

FLAGS = {"inputs": "--input"}  # other options have the names of the API's parameters
PATHS = ("inputs", "out", "root", "store", "anchor", "checkpoint")


def add_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cluster",
        type=address,
        metavar="ADDRESS",
        help="run the parts on workers of Dask, then join them: local:N for N workers on this machine, or the address "
        "of a scheduler that you trust, such as tcp://10.0.0.1:8786 (docs/data.md#dask)",
    )
    parser.add_argument(
        "--parts", type=whole, metavar="N", help="with --cluster: parts in all (default: 4 per thread of a worker)"
    )


def address(text: str) -> str:
    """For argparse: local:N, or SCHEME://HOST:PORT."""
    if not re.fullmatch(r"local:[1-9]\d{0,3}|(tcp|tls)://[^/\s]+:\d+", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r}: local:N or tcp://HOST:PORT needed")
    return text


def whole(text: str) -> int:
    """For argparse: a whole number from 1."""
    if not re.fullmatch(r"[1-9]\d{0,8}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 needed")
    return int(text)


def run_parts_of(verb: str, options: argparse.Namespace, function: Callable[..., Any]) -> None:
    """With --cluster, runs all parts of the verb there. Without, does nothing. `function` is the verb's in the API."""
    if not options.cluster:
        if options.parts:
            raise UsageError("--parts goes with --cluster")
        return
    if options.part:
        raise UsageError("--cluster runs all parts: leave out --part")
    command, here = [verb], local_workers(options.cluster)
    for name, value in arguments(options, function).items():
        if name == "workers" and value is None and here:
            value = max(1, cores() // here)  # they share this machine
        if value is not None:
            values = value if isinstance(value, list) else [value]
            command.append(FLAGS.get(name, f"--{name.replace('_', '-')}"))
            command += [_absolute(one) if name in PATHS else str(one) for one in values]
    run_parts(options.cluster, command, options.parts, sys.stderr.isatty())


def _absolute(path: str) -> str:
    """A path that means the same in another working folder; the URL of a bucket stays."""
    return bucket_url(path) or str(Path(path).absolute())
