"""`jepa-speech fit kmeans`: the centroids whose labels a model learns to predict (HuBERT, WavLM)."""

import argparse
from typing import Any

from jepa_speech.api.fit_kmeans import fit_kmeans
from jepa_speech.cli.commands import arguments
from jepa_speech.cli.fit_shared import print_head
from jepa_speech.local_paths import path_or_bucket
from jepa_speech.wording import counted

HELP = "k-means: every frame's label is its nearest centroid"
EXAMPLE = "jepa-speech fit kmeans --store store --out km.npz --components 500 --features layer:6 --checkpoint RUN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=path_or_bucket, required=True, metavar="KMEANS.npz", help="where to write the centroids"
    )
    parser.add_argument("--components", type=int, default=100, metavar="K")
    parser.add_argument(
        "--algorithm",
        choices=("lloyd", "minibatch"),
        default="lloyd",
        help="lloyd: every centroid moves once in a pass; minibatch: after every 10,000 frames, so fewer passes do",
    )
    parser.add_argument("--standardize", action="store_true", help="divide every feature by its deviation first")
    parser.add_argument("--iterations", type=int, default=20, help="passes over the frames, at most (default 20)")
    parser.set_defaults(features="mfcc100")


def run(options: argparse.Namespace) -> dict[str, Any]:
    results = fit_kmeans(**arguments(options, fit_kmeans), progress=True)
    heldout = results["heldout_inertia"]
    print_head(results)
    print(f"usage        entropy {results['usage_entropy']:.3f} of its maximum (1: all components are used equally)")
    print(
        f"held out     inertia {heldout[0]:.4g} to {heldout[-1]:.4g} in {counted(len(heldout), 'iteration')}, "
        f"of a variance of {results['heldout_variance']:.4g} ({results['heldout_frames']} frames)"
    )
    print(f"time         {results['seconds']:.1f} s")
    return results
