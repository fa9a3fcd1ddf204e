"""`jepa-speech fit`: the anchor of a store, a Gaussian mixture or k-means."""

import argparse
from typing import Any

from jepa_speech.cli import fit_gmm, fit_kmeans
from jepa_speech.cli.fit_shared import add_shared, check

HELP = "fit the anchor of a store: a diagonal Gaussian mixture or k-means, over spectral frames or an encoder's layer"
EXAMPLE = fit_gmm.EXAMPLE
KINDS = {"gmm": fit_gmm, "kmeans": fit_kmeans}


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
        add_shared(kind)
        module.add_arguments(kind)


def run(options: argparse.Namespace) -> dict[str, Any]:
    check(options)
    return KINDS[options.kind].run(options)
