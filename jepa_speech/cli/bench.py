"""`jepa-speech bench`: how fast a part of the road is by itself, on this machine."""

import argparse
from typing import Any

from jepa_speech.cli import bench_data

HELP = "how fast a part is by itself on this machine: the loader"
EXAMPLE = bench_data.EXAMPLE
KINDS = {"data": bench_data}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for name, module in KINDS.items():
        kind = kinds.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            epilog=f"example:\n  {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(kind)
        # Every verb takes --json; here it may also stand behind the kind.
        kind.add_argument("--json", metavar="FILE", default=argparse.SUPPRESS, help="also write the results as JSON")


def run(options: argparse.Namespace) -> dict[str, Any]:
    return KINDS[options.kind].run(options)
