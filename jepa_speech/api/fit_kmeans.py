"""`jepa_speech.fit_kmeans`: the centroids whose labels a model learns to predict (HuBERT, WavLM)."""

import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jepa_speech.anchors import lloyd
from jepa_speech.anchors.kmeans import KMeans
from jepa_speech.api.feature_source import source
from jepa_speech.api.fit_metrics import draw_history, write_history
from jepa_speech.api.fit_shared import HOURS, check, claim_files, frames_to_fit, identity, unfinished, writing
from jepa_speech.cloud.arguments import takes_buckets
from jepa_speech.features import grid
from jepa_speech.progress import bar
from jepa_speech.store.store import Store
from jepa_speech.training.checkpoint_steps import Step
from jepa_speech.wording import counted


@takes_buckets("store", "out", "checkpoint")
def fit_kmeans(
    store: str | Path,
    out: str | Path,
    *,
    components: int = 100,
    algorithm: Literal["lloyd", "minibatch"] = "lloyd",
    standardize: bool = False,
    iterations: int = 20,
    hours: float = HOURS,
    features: str = "mfcc100",
    checkpoint: str | Path | None = None,
    step: Step | None = None,
    normalize: Literal["level", "mean"] = "level",
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Fit k-means to the frames of a store, and write the centroids to the file `out` (npz).

    After a kill, the same call resumes. Beside `out` are written STEM.metrics.jsonl (a row per pass) and STEM.png.

    Args:
        algorithm: "lloyd" moves every centroid once in a pass; "minibatch" after every 10,000 frames, so fewer passes
            are needed.
        standardize: divide every feature by its deviation first.
        iterations: passes over the frames, at most.
        hours, features, checkpoint, step, normalize, seed, progress: see `fit_gmm`.

    Returns a dict: `anchor` (path), `fingerprint`, `features`, `normalize`, `components`, with layer:N also
    `checkpoint` and `checkpoint_fingerprint`; `algorithm`, `components_alive`, `reseeded`, `usage_entropy` (of its
    maximum), `inertia` and `heldout_inertia` (of each pass, mean squared distances of the frames as they are fitted),
    `heldout_variance` (in the same unit), `frames`, `heldout_frames`, `recordings`, `seconds` (of wall time).

    Raises UsageError if an argument is wrong, UserError if there is no such store or checkpoint, another process
    writes `out`, or another program wrote it.
    """
    start, hours = time.monotonic(), float(hours)
    arguments: dict[str, Any] = {"components": components, "algorithm": algorithm, "iterations": iterations}
    arguments |= {"hours": hours, "normalize": normalize, "seed": seed}
    check(**arguments)
    with writing(out) as path:
        claim_files(path)
        data, found = Store(store), source(features, checkpoint, step)
        passes = frames_to_fit(
            data, found, components, normalize, hours, seed, standardize=standardize, progress=progress
        )
        arguments |= {"features": features, "standardize": standardize}
        kept = unfinished(path, "kmeans", data, found.fingerprint, arguments)
        with bar("k-means", iterations * passes.frames / grid.FRAME_RATE, progress) as shown:

            def watch(fit: lloyd.Fit) -> None:
                shown.set_postfix_str(f"held-out {fit.heldout[-1]:.4g}, {counted(fit.reseeded, 'component')} reseeded")
                write_history(path, fit.history)

            settings = lloyd.Options(components, algorithm, iterations, seed=seed)
            fit = lloyd.fit(passes.chunks(shown.update), passes.sample, passes.heldout, settings, watch, kept)

        anchor = KMeans(
            centroids=fit.centroids.astype(np.float32),
            shift=passes.shift,
            scale=passes.scale,
            rotation=passes.rotation,
            features=features,
            normalize=normalize,
            checkpoint=found.checkpoint,
            checkpoint_fingerprint=found.fingerprint,
        )
        anchor.save(path)
        draw_history(path, fit.history)
        kept.remove()
        return {
            **identity(out, anchor),
            "algorithm": algorithm,
            "components_alive": fit.history[-1]["alive"],
            "reseeded": fit.reseeded,
            "usage_entropy": fit.history[-1]["usage_entropy"],
            "inertia": fit.inertia,
            "heldout_inertia": fit.heldout,
            "heldout_variance": float(passes.heldout.var(axis=0, dtype=np.float64).sum()),
            "frames": passes.frames,
            "heldout_frames": len(passes.heldout),
            "recordings": passes.recordings,
            "seconds": round(time.monotonic() - start, 1),
        }
