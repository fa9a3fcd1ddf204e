"""`jepa-speech label`: the anchor's labels of every frame, written into the store."""

import argparse
import sys
import time
from typing import Any

from jepa_speech.anchors.load import load_anchor
from jepa_speech.cli.feature_source import source_of
from jepa_speech.cli.fit_shared import bar, compute_means
from jepa_speech.cli.part_option import add_part
from jepa_speech.cli.step_option import add_step
from jepa_speech.errors import UserError
from jepa_speech.labelling.anchoring import check_top_k, label, seconds_of
from jepa_speech.store.labels import FIGURES, Labels, labels_path
from jepa_speech.store.store import Store

HELP = "label every frame of a store with the anchor's posteriors, or its nearest centroid"
EXAMPLE = "jepa-speech label --store store --anchor gmm.npz --top-k 16"
TOP_K = 16
LOST = 1e-3  # nats


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", required=True, help="folder written by `jepa-speech prepare`")
    parser.add_argument("--anchor", required=True, metavar="ANCHOR.npz", help="written by `jepa-speech fit`")
    parser.add_argument(
        "--top-k",
        type=int,
        metavar="K",
        help=f"components to keep, the rest are pooled (default {TOP_K}; 1 for k-means, which has no more)",
    )
    parser.add_argument("--checkpoint", metavar="RUN", help="for an anchor of a layer: its folder, if it was moved")
    add_step(parser, default="the one that the anchor names, or else the newest")
    add_part(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    store, anchor, start = Store(options.store), load_anchor(options.anchor), time.monotonic()
    top_k = options.top_k if options.top_k is not None else 1 if anchor.max_top_k == 1 else TOP_K
    check_top_k(anchor, top_k)
    existing = _existing(store, anchor.fingerprint)
    done = existing is not None and existing.top_k == top_k
    if existing is not None and done:
        labels = existing
    else:
        features = source_of(anchor, options.anchor, options.checkpoint, options.step).extractor
        compute_means(store, features, anchor.normalize)
        with bar("label", seconds_of(store, options.part or (0, 1))) as progress:
            label(store, anchor, top_k, progress.update, features, options.part)
        if options.part:
            name = "{}/{}".format(*options.part)
            print(f"part {name} is written; when all are, `jepa-speech inspect {store.path} --merge` joins them")
            return {"store": str(store.path), "anchor": anchor.fingerprint, "part": name, "whole": False}
        labels = Labels(store, anchor)
    size = sum(file.stat().st_size for file in labels.path.iterdir())
    measured = {name: labels.meta[name] for name in FIGURES}
    results = {
        "labels": str(labels.path),
        "anchor": anchor.fingerprint,
        "components": labels.components,
        "top_k": labels.top_k,
        "frames": labels.meta["frames"],
        "bytes_per_hour": size / store.hours,
        "bytes_per_frame": size / labels.meta["frames"],
        **measured,
        "already_labelled": done,
        "seconds": round(time.monotonic() - start, 1),
    }
    if done:
        print(f"{store.path} has been labelled by this anchor with --top-k {labels.top_k} before; nothing to do")
    print(f"labels       {labels.path}")
    share = results["bytes_per_frame"] / (2 * labels.components)
    print(
        f"size         {results['bytes_per_hour'] / 1e6:.1f} MB per hour of audio, "
        f"{results['bytes_per_frame']:.1f} bytes per frame: {share:.1%} of all {labels.components} in float16"
    )
    print(
        f"kept         {measured['mean_kept_mass']:.5f} of the mass, by {labels.top_k} of {labels.components} at most"
    )
    more = "; a larger --top-k keeps more" if measured["mean_kl_dense_to_stored"] > LOST else ""
    print(f"lost         {measured['mean_kl_dense_to_stored']:.5f} nats, KL of dense to stored posteriors{more}")
    print(
        f"posteriors   entropy {measured['posterior_entropy']:.3f} nats, "
        f"perplexity {measured['posterior_perplexity']:.2f}"
    )
    print(f"time         {results['seconds']:.1f} s")
    return results


def _existing(store: Store, fingerprint: str) -> Labels | None:
    """Whole labels of this anchor, if there are any; broken ones, or another store's, are made again."""
    if not labels_path(store, fingerprint).is_dir():
        return None
    try:
        return Labels(store, fingerprint)
    except UserError as error:
        print(f"labelling again: {error}", file=sys.stderr)
        return None
