"""`jepa_speech.fit_gmm`: the mixture that a model is anchored to, fitted to a store."""

import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jepa_speech.anchors import em
from jepa_speech.anchors.frames import usage_entropy
from jepa_speech.anchors.temperature import sharpness, temperature_for
from jepa_speech.api.feature_source import source
from jepa_speech.api.fit_metrics import draw_history, write_history
from jepa_speech.api.fit_shared import HOURS, check, claim_files, frames_to_fit, identity, unfinished, writing
from jepa_speech.cloud.arguments import takes_buckets
from jepa_speech.features import grid
from jepa_speech.progress import bar
from jepa_speech.store.store import Store
from jepa_speech.training.checkpoint_steps import Step
from jepa_speech.wording import counted

_SHARPNESS_FRAMES = 20_000
_SHARPNESS_FLOATS = 1 << 24  # frames x components


@takes_buckets("store", "out", "checkpoint")
def fit_gmm(
    store: str | Path,
    out: str | Path,
    *,
    components: int = 1024,
    temperature: float = 1.0,
    perplexity: float | None = None,
    iterations: int = 20,
    hours: float = HOURS,
    features: str = "logmel",
    checkpoint: str | Path | None = None,
    step: Step | None = None,
    normalize: Literal["level", "mean"] = "level",
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Fit a diagonal Gaussian mixture to the frames of a store, and write it to the file `out` (npz).

    After a kill, the same call resumes. Beside `out` are written STEM.metrics.jsonl (a row per pass) and STEM.png.

    Args:
        temperature: divides the log joint before the softmax.
        perplexity: instead of `temperature`: it is found such that posteriors have this mean perplexity.
        iterations: passes of EM, at most.
        hours: of audio to fit on, whole recordings drawn by the seed; math.inf for all.
        features: "logmel", "mfcc", "mfcc100" or "pca", or "layer:N" of `checkpoint` (0: the input of its first block).
        checkpoint: for layer:N, a run folder or a folder of transformers; step: which checkpoint of the run.
        normalize: "level" (audio at level 1), or "mean" (also less each recording's mean feature vector).
        progress: show bars on stderr.

    Returns a dict: `anchor` (path), `fingerprint`, `features`, `normalize`, `components`, with layer:N also
    `checkpoint` and `checkpoint_fingerprint`; `components_alive`, `reseeded`, `weight_entropy` (of its maximum),
    `temperature`, `posterior_entropy` (nats), `posterior_perplexity`, `posterior_top1`, `log_likelihood` and
    `heldout_log_likelihood` (of each pass, nats per standardised frame), `frames`, `heldout_frames`, `recordings`,
    `seconds` (of wall time).

    Raises UsageError if an argument is wrong, UserError if there is no such store or checkpoint, another process
    writes `out`, or another program wrote it.
    """
    start, hours, temperature = time.monotonic(), float(hours), float(temperature)
    perplexity = None if perplexity is None else float(perplexity)
    arguments: dict[str, Any] = {"components": components, "temperature": temperature, "perplexity": perplexity}
    arguments |= {"iterations": iterations, "hours": hours, "normalize": normalize, "seed": seed}
    check(**arguments)
    with writing(out) as path:
        claim_files(path)
        data, found = Store(store), source(features, checkpoint, step)
        passes = frames_to_fit(data, found, components, normalize, hours, seed, standardize=True, progress=progress)
        z = _watched(passes.heldout, components, seed)
        kept = unfinished(path, "gmm", data, found.fingerprint, arguments | {"features": features})
        with bar("EM", (iterations + 1) * passes.frames / grid.FRAME_RATE, progress) as shown:

            def watch(fit: em.Fit) -> None:
                heldout = f"held-out {fit.history[-1]['heldout']:.3f} nats/frame"
                shown.set_postfix_str(f"{heldout}, {counted(fit.reseeded, 'component')} reseeded")
                arrays = fit.parameters.arrays()
                at = temperature if perplexity is None else temperature_for(arrays, z, perplexity)
                fit.history[-1]["temperature"] = at
                write_history(path, fit.history)

            settings = em.Options(components, iterations, seed=seed)
            fit = em.fit(passes.chunks(shown.update), passes.sample, passes.heldout, settings, watch, kept)

        kind = features, normalize, fit.history[-1]["temperature"], found.checkpoint, found.fingerprint
        anchor = fit.parameters.mixture(passes.shift, passes.scale, *kind, rotation=passes.rotation)
        anchor.save(path)
        draw_history(path, fit.history)
        kept.remove()
        sharp = sharpness(fit.parameters.arrays(), z, anchor.temperature)
        return {
            **identity(out, anchor),
            "components_alive": fit.alive,
            "reseeded": fit.reseeded,
            "weight_entropy": usage_entropy(anchor.weights),
            "temperature": anchor.temperature,
            "posterior_entropy": sharp["entropy"],
            "posterior_perplexity": sharp["perplexity"],
            "posterior_top1": sharp["top1"],
            "log_likelihood": fit.log_likelihood,
            "heldout_log_likelihood": fit.heldout,
            "frames": passes.frames,
            "heldout_frames": len(passes.heldout),
            "recordings": passes.recordings,
            "seconds": round(time.monotonic() - start, 1),
        }


def _watched(heldout: np.ndarray, components: int, seed: int) -> np.ndarray:
    """Some of the held-out frames, enough for a mean entropy and quick to bisect over."""
    count = min(_SHARPNESS_FRAMES, max(1_000, _SHARPNESS_FLOATS // components))
    chosen = np.random.default_rng(seed).permutation(len(heldout))[:count]
    return heldout[np.sort(chosen)]
