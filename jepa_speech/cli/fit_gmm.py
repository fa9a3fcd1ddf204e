"""`jepa-speech fit gmm`: the mixture that a model is anchored to, fitted to a store."""

import argparse
from typing import Any

from jepa_speech.api.fit_gmm import fit_gmm
from jepa_speech.cli.commands import arguments
from jepa_speech.cli.fit_shared import print_head
from jepa_speech.local_paths import path_or_bucket
from jepa_speech.wording import counted

HELP = "a diagonal Gaussian mixture: every frame's label is its posteriors"
EXAMPLE = "jepa-speech fit gmm --store store --out gmm.npz --components 256 --features mfcc --normalize mean"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=path_or_bucket, required=True, metavar="GMM.npz", help="where to write the mixture"
    )
    parser.add_argument("--components", type=int, default=1024, metavar="K")
    sharpness = parser.add_mutually_exclusive_group()
    sharpness.add_argument("--temperature", type=float, default=1.0, metavar="T", help="divides the log joint")
    sharpness.add_argument(
        "--perplexity", type=float, metavar="P", help="find the temperature at which posteriors have this perplexity"
    )
    parser.add_argument(
        "--iterations", type=int, default=20, help="of EM, at most (default 20): passes over the frames"
    )
    parser.set_defaults(features="logmel")


def run(options: argparse.Namespace) -> dict[str, Any]:
    results = fit_gmm(**arguments(options, fit_gmm), progress=True)
    heldout = results["heldout_log_likelihood"]
    print_head(results)
    print(f"weights      entropy {results['weight_entropy']:.3f} of its maximum (1: all components are used equally)")
    print(
        f"posteriors   at temperature {results['temperature']:.3g}: entropy {results['posterior_entropy']:.3f} nats, "
        f"perplexity {results['posterior_perplexity']:.2f}, mean top-1 {results['posterior_top1']:.3f}"
    )
    print(
        f"held out     {heldout[0]:.2f} to {heldout[-1]:.2f} nats per frame "
        f"in {counted(len(heldout), 'iteration')} ({results['heldout_frames']} frames)"
    )
    print(f"time         {results['seconds']:.1f} s")
    return results
