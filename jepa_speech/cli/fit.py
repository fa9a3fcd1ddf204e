"""`jepa-speech fit`: the anchor of a store, a Gaussian mixture or k-means."""

import argparse
from pathlib import Path
from typing import Any

from jepa_speech.cli import fit_curve, fit_gmm, fit_kmeans
from jepa_speech.cli.commands import add_kinds
from jepa_speech.cli.fit_shared import add_shared, check
from jepa_speech.lock import locked

HELP = "fit the anchor of a store: a diagonal Gaussian mixture or k-means, over spectral frames or an encoder's layer"
EXAMPLE = fit_gmm.EXAMPLE
KINDS = {"gmm": fit_gmm, "kmeans": fit_kmeans}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for kind in add_kinds(parser, KINDS):
        add_shared(kind)
        fit_curve.add_curve(kind)


def run(options: argparse.Namespace) -> dict[str, Any]:
    check(options)
    out = Path(options.out)
    with locked(out.with_name(f".{out.name}.jepa-speech.lock"), "fit"):
        if options.curve:
            return fit_curve.run(options, KINDS[options.kind].run)
        return KINDS[options.kind].run(options)
