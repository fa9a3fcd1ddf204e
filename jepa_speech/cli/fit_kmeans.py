"""`jepa-speech fit kmeans`: the centroids whose labels a model learns to predict (HuBERT, WavLM)."""

import argparse
import time
from typing import Any

import numpy as np

from jepa_speech.anchors import lloyd
from jepa_speech.anchors.kmeans import KMeans
from jepa_speech.cli.feature_source import source
from jepa_speech.cli.fit_metrics import draw_history, write_history
from jepa_speech.cli.fit_shared import add_hours, bar, compute_means, identity, print_head, unfinished
from jepa_speech.features import grid
from jepa_speech.labelling.anchoring import seconds_of
from jepa_speech.labelling.fit_frames import Passes, fitting_passes
from jepa_speech.store.store import Store
from jepa_speech.wording import counted

HELP = "k-means: every frame's label is its nearest centroid"
EXAMPLE = "jepa-speech fit kmeans --store store --out km.npz --components 500 --features layer:6 --checkpoint RUN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="KMEANS.npz", help="where to write the centroids")
    parser.add_argument("--components", type=int, default=100, metavar="K")
    parser.add_argument(
        "--algorithm",
        choices=("lloyd", "minibatch"),
        default="lloyd",
        help="lloyd: every centroid moves once in a pass; minibatch: after every 10,000 frames, so fewer passes do",
    )
    parser.add_argument("--standardize", action="store_true", help="divide every feature by its deviation first")
    parser.add_argument("--iterations", type=int, default=20, help="passes over the frames, at most (default 20)")
    add_hours(parser)
    parser.set_defaults(features="mfcc100")


def run(options: argparse.Namespace) -> dict[str, Any]:
    store, start = Store(options.store), time.monotonic()
    features, checkpoint, fingerprint = source(options.features, options.checkpoint, options.step)
    compute_means(store, features, options.normalize)
    sample = lloyd.seeding_frames(options.components)
    with bar("features", min(seconds_of(store), options.hours * 3600)) as progress:
        passes = fitting_passes(
            store,
            features,
            options.normalize,
            options.hours,
            options.seed,
            sample,
            options.standardize,
            progress.update,
        )
    settings = lloyd.Options(options.components, options.algorithm, options.iterations, seed=options.seed)
    kept = unfinished(options, store, fingerprint)
    with bar("k-means", options.iterations * passes.frames / grid.FRAME_RATE) as progress:

        def watch(fit: lloyd.Fit) -> None:
            progress.set_postfix_str(f"held-out {fit.heldout[-1]:.4g}, {counted(fit.reseeded, 'component')} reseeded")
            write_history(options.out, fit.history)

        fit = lloyd.fit(passes.chunks(progress.update), passes.sample, passes.heldout, settings, watch, kept)

    anchor = KMeans(
        centroids=fit.centroids.astype(np.float32),
        shift=passes.shift,
        scale=passes.scale,
        rotation=passes.rotation,
        features=options.features,
        normalize=options.normalize,
        checkpoint=checkpoint,
        checkpoint_fingerprint=fingerprint,
    )
    anchor.save(options.out)
    draw_history(options.out, fit.history)
    kept.remove()
    return _report(options, anchor, passes, fit, time.monotonic() - start)


def _report(
    options: argparse.Namespace, anchor: KMeans, passes: Passes, fit: lloyd.Fit, seconds: float
) -> dict[str, Any]:
    """What is printed, and written by --json. Inertias are mean squared distances, as they are fitted."""
    spread = float(passes.heldout.var(axis=0, dtype=np.float64).sum())
    results = {
        **identity(options, anchor),
        "algorithm": options.algorithm,
        "components_alive": fit.history[-1]["alive"],
        "reseeded": fit.reseeded,
        "usage_entropy": fit.history[-1]["usage_entropy"],
        "inertia": fit.inertia,
        "heldout_inertia": fit.heldout,
        "heldout_variance": spread,
        "frames": passes.frames,
        "heldout_frames": len(passes.heldout),
        "recordings": passes.recordings,
        "seconds": round(seconds, 1),
    }
    print_head(options, anchor, passes.frames, passes.recordings)
    print(f"components   {results['components_alive']} alive of {anchor.components}, {fit.reseeded} reseeded")
    print(f"usage        entropy {results['usage_entropy']:.3f} of its maximum (1: all components are used equally)")
    print(
        f"held out     inertia {fit.heldout[0]:.4g} to {fit.heldout[-1]:.4g} "
        f"in {counted(len(fit.heldout), 'iteration')}, of a variance of {spread:.4g} ({len(passes.heldout)} frames)"
    )
    print(f"time         {seconds:.1f} s")
    return results
