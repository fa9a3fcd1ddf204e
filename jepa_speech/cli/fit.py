"""`jepa-speech fit`: the anchor of a store, a Gaussian mixture or k-means."""

import argparse
from typing import Any

from jepa_speech.api.fit_curve import FITS, fit_curve
from jepa_speech.cli import fit_gmm, fit_kmeans
from jepa_speech.cli.commands import add_kinds, arguments
from jepa_speech.cli.fit_shared import add_shared

HELP = "fit the anchor of a store: a diagonal Gaussian mixture or k-means, over spectral frames or an encoder's layer"
EXAMPLE = fit_gmm.EXAMPLE
KINDS = {"gmm": fit_gmm, "kmeans": fit_kmeans}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for kind in add_kinds(parser, KINDS):
        add_shared(kind)


def run(options: argparse.Namespace) -> dict[str, Any]:
    return run_curve(options) if options.curve else KINDS[options.kind].run(options)


def run_curve(options: argparse.Namespace) -> dict[str, Any]:
    """Fits the anchors of --curve, and prints its table."""
    chosen = arguments(options, FITS[options.kind]) | {"hours": options.curve}
    results = fit_curve(options.kind, **chosen, progress=True)
    quality = "inertia, of both fits" if options.kind == "kmeans" else "nats per frame, of both fits"
    print(f"\n{'hours':>8} {quality:>28} {'same label':>11}")
    for row in results["curve"]:
        print(f"{row['hours']:8g} {row['first']:13.4f} {row['second']:14.4f} {row['agreement']:10.1%}")
    print(f"curve        {results['plot']}  ({results['heldout_frames']} held-out frames)")
    return results
