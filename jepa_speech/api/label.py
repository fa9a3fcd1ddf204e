"""`jepa_speech.label`: the anchor's labels of every frame, written into the store."""

import time
from pathlib import Path
from typing import Any

from jepa_speech.anchors.load import load_anchor
from jepa_speech.api.feature_source import compute_means, source_of
from jepa_speech.arguments import Part, check_part
from jepa_speech.cloud.arguments import takes_buckets
from jepa_speech.errors import UsageError, UserError
from jepa_speech.labelling import anchoring
from jepa_speech.local_paths import bucket_url
from jepa_speech.progress import bar
from jepa_speech.store.labels import FIGURES, Labels, fetch_labels, labels_path, upload_labels
from jepa_speech.store.store import Store
from jepa_speech.training.checkpoint_steps import Step

TOP_K = 16


@takes_buckets("store", "anchor", "checkpoint")
def label(
    store: str | Path,
    anchor: str | Path,
    *,
    top_k: int | None = None,
    checkpoint: str | Path | None = None,
    step: Step | None = None,
    part: Part | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Write the labels that an anchor gives every frame of a store into the store.

    After a kill, the same call resumes; it does nothing if the store has these labels.

    Args:
        anchor: a file that `fit_gmm` or `fit_kmeans` wrote.
        top_k: components to keep of a frame's posterior, the rest are pooled; by default 16, of k-means 1.
        checkpoint, step: for an anchor of layer:N, the run folder or folder of transformers if it was moved, and which
            checkpoint of the run; by default what the anchor names.
        part: (i, n) writes only the i-th of n parts, for an array job; `merge_parts` joins them.
        progress: show bars on stderr.

    Returns a dict: `labels` (path), `anchor` (fingerprint), `components`, `top_k`, `frames`, `bytes_per_hour`,
    `bytes_per_frame`, `mean_kept_mass` (0 to 1), `mean_kl_dense_to_stored` (nats), `posterior_entropy` (nats),
    `posterior_perplexity`, `already_labelled` (whether nothing was to do), `replaced` (why earlier labels of this
    anchor were made again, or ""), `seconds` (of wall time). Of a part only `store`, `anchor`, `part` ("i/n"),
    `replaced` and `whole`, which is False.

    Raises UsageError if an argument is wrong. Raises UserError if there is no such store or anchor, the checkpoint is
    not the one that the anchor was fitted to, or another process writes these labels.
    """
    check_part(part)
    if part:
        refuse_parts("part", store)
    data, found, start = Store(store), load_anchor(anchor), time.monotonic()
    if top_k is None:
        top_k = 1 if found.max_top_k == 1 else TOP_K
    anchoring.check_top_k(found, top_k)
    labels, replaced = _existing(data, found.fingerprint)
    done = labels is not None and labels.top_k == top_k
    if labels is None or not done:
        features = source_of(found, anchor, checkpoint, step).extractor
        compute_means(data, features, found.normalize, progress)
        with bar("label", anchoring.seconds_of(data, part or (0, 1)), progress) as shown:
            anchoring.label(data, found, top_k, shown.update, features, part)
        if part:
            which = {"store": data.name, "anchor": found.fingerprint, "part": f"{part[0]}/{part[1]}"}
            return which | {"replaced": replaced, "whole": False}
    _upload(data, found.fingerprint)
    labels = Labels(data, found)
    size, frames = sum(file.stat().st_size for file in labels.path.iterdir()), labels.meta["frames"]
    return {
        "labels": f"{data.name}/labels/{labels.path.name}",
        "anchor": found.fingerprint,
        "components": labels.components,
        "top_k": labels.top_k,
        "frames": frames,
        "bytes_per_hour": size / data.hours,
        "bytes_per_frame": size / frames,
        **{name: labels.meta[name] for name in FIGURES},
        "already_labelled": done,
        "replaced": replaced,
        "seconds": round(time.monotonic() - start, 1),
    }


def refuse_parts(name: str, store: str | Path) -> None:
    """Raises UsageError, naming the argument or option `name`, if the store is in a bucket."""
    if bucket_url(str(store)):
        raise UsageError(f"{name}: the labels of {store} are made by one process; label a local copy in parts")


def _upload(store: Store, fingerprint: str) -> None:
    """Writes labels, and before them the feature means, to the bucket of a store that is in one."""
    for path in sorted((store.path / "feature_means").glob("[!.]*.npy")):
        store.files.upload([f"feature_means/{path.name}"])
    upload_labels(store, fingerprint)


def _existing(store: Store, fingerprint: str) -> tuple[Labels | None, str]:
    """Complete labels of this anchor, or None and what is wrong with those that are there ("" if there are none)."""
    fetch_labels(store, fingerprint)
    if not labels_path(store, fingerprint).is_dir():
        return None, ""
    try:
        return Labels(store, fingerprint), ""
    except UserError as error:
        return None, str(error)
