"""`jepa-speech fit gmm`: the mixture that a model is anchored to, fitted to a store."""

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from jepa_speech.anchors import em
from jepa_speech.anchors.anchor import NORMALIZE
from jepa_speech.anchors.frames import shift_and_scale
from jepa_speech.anchors.gmm import DiagonalGMM
from jepa_speech.data.anchoring import Frames, feature_means, fitting_frames, seconds_of
from jepa_speech.data.feature_means import means_path
from jepa_speech.data.store import Store
from jepa_speech.errors import UsageError
from jepa_speech.features import grid
from jepa_speech.features.spectral import DIMS

HELP = "fit the anchor of a store: a diagonal Gaussian mixture over log-mel or MFCC frames"
EXAMPLE = "jepa-speech fit gmm --store store --out gmm.npz --components 256 --features mfcc --normalize mean"

_SHARPNESS_FRAMES = 20_000  # enough for a mean entropy, and quick to bisect over


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    gmm = kinds.add_parser(
        "gmm",
        help=HELP,
        description=HELP,
        epilog=f"example:\n  {EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    gmm.add_argument("--store", required=True, help="folder written by `jepa-speech prepare`")
    gmm.add_argument("--out", required=True, metavar="GMM.npz", help="where to write the mixture")
    gmm.add_argument("--components", type=int, default=1024, metavar="K")
    gmm.add_argument("--features", choices=DIMS, default="logmel")
    gmm.add_argument(
        "--normalize",
        choices=NORMALIZE,
        default="level",
        help="level: audio at level 1; mean: also less each recording's mean feature vector",
    )
    sharpness = gmm.add_mutually_exclusive_group()
    sharpness.add_argument("--temperature", type=float, default=1.0, metavar="T", help="divides the log joint")
    sharpness.add_argument(
        "--perplexity", type=float, metavar="P", help="find the temperature at which posteriors have this perplexity"
    )
    gmm.add_argument("--iterations", type=int, default=20, help="of EM, at most (default 20)")
    gmm.add_argument("--hours", type=float, default=15.0, help="of audio to fit on, at most; held in memory")
    gmm.add_argument("--seed", type=int, default=0)
    # Every verb takes --json; here it may also stand behind the kind.
    gmm.add_argument("--json", metavar="FILE", default=argparse.SUPPRESS, help="also write the results as JSON")


def run(options: argparse.Namespace) -> dict[str, Any]:
    _check(options)
    store, start = Store(options.store), time.monotonic()
    if options.normalize == "mean" and not means_path(store, options.features).is_file():
        with _bar("means", seconds_of(store)) as bar:
            feature_means(store, options.features, bar.update)
    with _bar("features", min(seconds_of(store), options.hours * 3600)) as bar:
        frames = fitting_frames(store, options.features, options.normalize, options.hours, options.seed, bar.update)
    shift, scale = shift_and_scale(frames.train)
    np.subtract(frames.x, shift, out=frames.x, casting="same_kind")
    np.divide(frames.x, scale, out=frames.x, casting="same_kind")
    settings = em.Options(options.components, options.iterations, seed=options.seed)
    with tqdm(total=options.iterations, desc="EM", unit="it", file=sys.stderr) as bar:

        def watch(fit: em.Fit) -> None:
            bar.set_postfix_str(f"held-out {fit.heldout[-1]:.3f} nats/frame, {fit.reseeded} seeded again")
            bar.update()

        fit = em.fit(frames.train, frames.heldout, settings, watch)

    sample = np.random.default_rng(options.seed).permutation(len(frames.heldout))[:_SHARPNESS_FRAMES]
    z = frames.heldout[np.sort(sample)]
    arrays, temperature = fit.parameters.arrays(), options.temperature
    if options.perplexity is not None:
        temperature = em.temperature_for(arrays, z, options.perplexity)
    anchor = fit.parameters.mixture(shift, scale, options.features, options.normalize, temperature)
    anchor.save(options.out)
    return _report(options, anchor, frames, fit, em.sharpness(arrays, z, temperature), time.monotonic() - start)


def _check(options: argparse.Namespace) -> None:
    """Before any audio is read."""
    for name in ("components", "iterations", "temperature", "hours"):
        if not getattr(options, name) > 0:
            raise UsageError(f"--{name} {getattr(options, name):g}: choose one above 0")
    if options.seed < 0:
        raise UsageError(f"--seed {options.seed}: choose 0 or more")
    if options.perplexity is not None and not 1 < options.perplexity < options.components:
        raise UsageError(
            f"--perplexity {options.perplexity:g}: choose one above 1 and below {options.components} components"
        )
    out = Path(options.out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"--out {out}: {error.filename} is a file, not a folder") from error
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder: name a file in it, such as {out / 'gmm.npz'}")


def _bar(what: str, seconds: float) -> tqdm:
    return tqdm(total=math.ceil(seconds), desc=what, unit="s", unit_scale=True, file=sys.stderr)


def _report(
    options: argparse.Namespace,
    anchor: DiagonalGMM,
    frames: Frames,
    fit: em.Fit,
    sharpness: dict[str, float],
    seconds: float,
) -> dict[str, Any]:
    """What is printed, and written by --json. Entropies in nats, likelihoods in nats per standardised frame."""
    weights = anchor.weights[anchor.weights > 0].astype(np.float64)
    usage = float(-np.sum(weights * np.log(weights)) / np.log(max(anchor.components, 2)))
    results = {
        "anchor": str(options.out),
        "fingerprint": anchor.fingerprint,
        "features": anchor.features,
        "normalize": anchor.normalize,
        "components": anchor.components,
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
    hours = len(frames.train) / grid.FRAME_RATE / 3600
    print(f"anchor       {options.out}  ({anchor.features}, normalized by {anchor.normalize})")
    print(f"frames       {len(frames.train)} ({hours:.2f} h) of {frames.recordings} recordings")
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
