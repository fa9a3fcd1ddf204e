"""`jepa-speech fit gmm`: the mixture that a model is anchored to, fitted to a store."""

import argparse
import time
from typing import Any

import numpy as np

from jepa_speech.anchors import em, lloyd
from jepa_speech.anchors.anchor import Arrays
from jepa_speech.anchors.frames import usage_entropy
from jepa_speech.anchors.gmm import DiagonalGMM
from jepa_speech.anchors.temperature import sharpness, temperature_for
from jepa_speech.cli.feature_source import source
from jepa_speech.cli.fit_metrics import draw_history, write_history
from jepa_speech.cli.fit_shared import add_hours, bar, compute_means, identity, print_head, unfinished
from jepa_speech.errors import UsageError
from jepa_speech.features import grid
from jepa_speech.labelling.anchoring import seconds_of
from jepa_speech.labelling.fit_frames import Passes, fitting_passes
from jepa_speech.store.store import Store
from jepa_speech.wording import counted

HELP = "a diagonal Gaussian mixture: every frame's label is its posteriors"
EXAMPLE = "jepa-speech fit gmm --store store --out gmm.npz --components 256 --features mfcc --normalize mean"

_SHARPNESS_FRAMES = 20_000
_SHARPNESS_FLOATS = 1 << 24  # frames x components


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="GMM.npz", help="where to write the mixture")
    parser.add_argument("--components", type=int, default=1024, metavar="K")
    sharpness = parser.add_mutually_exclusive_group()
    sharpness.add_argument("--temperature", type=float, default=1.0, metavar="T", help="divides the log joint")
    sharpness.add_argument(
        "--perplexity", type=float, metavar="P", help="find the temperature at which posteriors have this perplexity"
    )
    parser.add_argument(
        "--iterations", type=int, default=20, help="of EM, at most (default 20): passes over the frames"
    )
    add_hours(parser)
    parser.set_defaults(features="logmel")


def run(options: argparse.Namespace) -> dict[str, Any]:
    if options.perplexity is not None and not 1 < options.perplexity < options.components:
        raise UsageError(
            f"--perplexity {options.perplexity:g}: choose one above 1 and below {options.components} components"
        )
    store, start = Store(options.store), time.monotonic()
    features, checkpoint, fingerprint = source(options.features, options.checkpoint, options.step)
    compute_means(store, features, options.normalize)
    sample = lloyd.seeding_frames(options.components)
    with bar("features", min(seconds_of(store), options.hours * 3600)) as progress:
        passes = fitting_passes(
            store, features, options.normalize, options.hours, options.seed, sample, True, progress.update
        )
    z = _watched(passes.heldout, options)
    settings = em.Options(options.components, options.iterations, seed=options.seed)
    kept = unfinished(options, store, fingerprint)
    with bar("EM", (options.iterations + 1) * passes.frames / grid.FRAME_RATE) as progress:

        def watch(fit: em.Fit) -> None:
            progress.set_postfix_str(
                f"held-out {fit.history[-1]['heldout']:.3f} nats/frame, {counted(fit.reseeded, 'component')} reseeded"
            )
            fit.history[-1]["temperature"] = _temperature(fit.parameters.arrays(), z, options)
            write_history(options.out, fit.history)

        fit = em.fit(passes.chunks(progress.update), passes.sample, passes.heldout, settings, watch, kept)

    temperature = fit.history[-1]["temperature"]
    kind = options.features, options.normalize, temperature, checkpoint, fingerprint
    anchor = fit.parameters.mixture(passes.shift, passes.scale, *kind, rotation=passes.rotation)
    anchor.save(options.out)
    draw_history(options.out, fit.history)
    kept.remove()
    sharp = sharpness(fit.parameters.arrays(), z, temperature)
    return _report(options, anchor, passes, fit, sharp, time.monotonic() - start)


def _watched(heldout: np.ndarray, options: argparse.Namespace) -> np.ndarray:
    """Some of the held-out frames, enough for a mean entropy and quick to bisect over."""
    count = min(_SHARPNESS_FRAMES, max(1_000, _SHARPNESS_FLOATS // options.components))
    chosen = np.random.default_rng(options.seed).permutation(len(heldout))[:count]
    return heldout[np.sort(chosen)]


def _temperature(arrays: Arrays, z: np.ndarray, options: argparse.Namespace) -> float:
    return temperature_for(arrays, z, options.perplexity) if options.perplexity is not None else options.temperature


def _report(
    options: argparse.Namespace,
    anchor: DiagonalGMM,
    passes: Passes,
    fit: em.Fit,
    sharp: dict[str, float],
    seconds: float,
) -> dict[str, Any]:
    """What is printed, and written by --json. Entropies in nats, likelihoods in nats per standardised frame."""
    usage = usage_entropy(anchor.weights)
    results = {
        **identity(options, anchor),
        "components_alive": fit.alive,
        "reseeded": fit.reseeded,
        "weight_entropy": usage,
        "temperature": anchor.temperature,
        "posterior_entropy": sharp["entropy"],
        "posterior_perplexity": sharp["perplexity"],
        "posterior_top1": sharp["top1"],
        "log_likelihood": fit.log_likelihood,
        "heldout_log_likelihood": fit.heldout,
        "frames": passes.frames,
        "heldout_frames": len(passes.heldout),
        "recordings": passes.recordings,
        "seconds": round(seconds, 1),
    }
    print_head(options, anchor, passes.frames, passes.recordings)
    print(f"components   {results['components_alive']} alive of {anchor.components}, {fit.reseeded} reseeded")
    print(f"weights      entropy {usage:.3f} of its maximum (1: all components are used equally)")
    print(
        f"posteriors   at temperature {anchor.temperature:.3g}: entropy {sharp['entropy']:.3f} nats, "
        f"perplexity {sharp['perplexity']:.2f}, mean top-1 {sharp['top1']:.3f}"
    )
    print(
        f"held out     {fit.heldout[0]:.2f} to {fit.heldout[-1]:.2f} nats per frame "
        f"in {counted(len(fit.heldout), 'iteration')} ({len(passes.heldout)} frames)"
    )
    print(f"time         {seconds:.1f} s")
    return results
