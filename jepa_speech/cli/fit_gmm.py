"""`jepa-speech fit gmm`: the mixture that a model is anchored to, fitted to a store."""

import argparse
import sys
import time
from typing import Any

import numpy as np
from tqdm import tqdm

from jepa_speech.anchors import em
from jepa_speech.anchors.frames import shift_and_scale
from jepa_speech.anchors.gmm import DiagonalGMM
from jepa_speech.cli.fit_shared import bar, compute_means, identity, print_head, usage_entropy
from jepa_speech.cli.layers import source
from jepa_speech.data.anchoring import seconds_of
from jepa_speech.data.fitting import Frames, fitting_frames
from jepa_speech.data.store import Store
from jepa_speech.errors import UsageError

HELP = "a diagonal Gaussian mixture: every frame's label is its posteriors"
EXAMPLE = "jepa-speech fit gmm --store store --out gmm.npz --components 256 --features mfcc --normalize mean"

_SHARPNESS_FRAMES = 20_000  # enough for a mean entropy, and quick to bisect over


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="GMM.npz", help="where to write the mixture")
    parser.add_argument("--components", type=int, default=1024, metavar="K")
    sharpness = parser.add_mutually_exclusive_group()
    sharpness.add_argument("--temperature", type=float, default=1.0, metavar="T", help="divides the log joint")
    sharpness.add_argument(
        "--perplexity", type=float, metavar="P", help="find the temperature at which posteriors have this perplexity"
    )
    parser.add_argument("--iterations", type=int, default=20, help="of EM, at most (default 20)")
    parser.add_argument("--hours", type=float, default=15.0, help="of audio to fit on, at most; held in memory")
    parser.set_defaults(features="logmel")


def run(options: argparse.Namespace) -> dict[str, Any]:
    if options.perplexity is not None and not 1 < options.perplexity < options.components:
        raise UsageError(
            f"--perplexity {options.perplexity:g}: choose one above 1 and below {options.components} components"
        )
    store, start = Store(options.store), time.monotonic()
    features, checkpoint, fingerprint = source(options.features, options.checkpoint)
    compute_means(store, features, options.normalize)
    with bar("features", min(seconds_of(store), options.hours * 3600)) as progress:
        frames = fitting_frames(store, features, options.normalize, options.hours, options.seed, progress.update)
    shift, scale = shift_and_scale(frames.train)
    np.subtract(frames.x, shift, out=frames.x, casting="same_kind")
    np.divide(frames.x, scale, out=frames.x, casting="same_kind")
    settings = em.Options(options.components, options.iterations, seed=options.seed)
    with tqdm(total=options.iterations, desc="EM", unit="it", file=sys.stderr) as progress:

        def watch(fit: em.Fit) -> None:
            progress.set_postfix_str(f"held-out {fit.heldout[-1]:.3f} nats/frame, {fit.reseeded} seeded again")
            progress.update()

        fit = em.fit(frames.train, frames.heldout, settings, watch)

    sample = np.random.default_rng(options.seed).permutation(len(frames.heldout))[:_SHARPNESS_FRAMES]
    z = frames.heldout[np.sort(sample)]
    arrays, temperature = fit.parameters.arrays(), options.temperature
    if options.perplexity is not None:
        temperature = em.temperature_for(arrays, z, options.perplexity)
    anchor = fit.parameters.mixture(
        shift, scale, options.features, options.normalize, temperature, checkpoint, fingerprint
    )
    anchor.save(options.out)
    return _report(options, anchor, frames, fit, em.sharpness(arrays, z, temperature), time.monotonic() - start)


def _report(
    options: argparse.Namespace,
    anchor: DiagonalGMM,
    frames: Frames,
    fit: em.Fit,
    sharpness: dict[str, float],
    seconds: float,
) -> dict[str, Any]:
    """What is printed, and written by --json. Entropies in nats, likelihoods in nats per standardised frame."""
    usage = usage_entropy(anchor.weights)
    results = {
        **identity(options, anchor),
        "components_alive": anchor.components - fit.dead,
        "reseeded": fit.reseeded,
        "weight_entropy": usage,
        "temperature": anchor.temperature,
        "posterior_entropy": sharpness["entropy"],
        "posterior_perplexity": sharpness["perplexity"],
        "posterior_top1": sharpness["top1"],
        "log_likelihood": fit.log_likelihood,
        "heldout_log_likelihood": fit.heldout,
        "frames": len(frames.train),
        "heldout_frames": len(frames.heldout),
        "recordings": frames.recordings,
        "seconds": round(seconds, 1),
    }
    print_head(options, anchor, len(frames.train), frames.recordings)
    print(f"components   {results['components_alive']} alive of {anchor.components}, {fit.reseeded} seeded again")
    print(f"weights      entropy {usage:.3f} of the most there can be")
    print(
        f"posteriors   at temperature {anchor.temperature:.3g}: entropy {sharpness['entropy']:.3f} nats, "
        f"perplexity {sharpness['perplexity']:.2f}, mean top-1 {sharpness['top1']:.3f}"
    )
    print(
        f"held out     {fit.heldout[0]:.2f} to {fit.heldout[-1]:.2f} nats per frame "
        f"in {len(fit.heldout)} iterations ({len(frames.heldout)} frames)"
    )
    print(f"time         {seconds:.1f} s")
    return results
