"""`jepa-speech label`: the anchor's labels of every frame, written into the store."""

import argparse
import sys
from typing import Any

from jepa_speech.api.label import TOP_K, label, refuse_parts
from jepa_speech.cli.cluster_option import add_cluster, run_parts_of
from jepa_speech.cli.commands import arguments
from jepa_speech.cli.part_option import add_part
from jepa_speech.cli.step_option import add_step
from jepa_speech.local_paths import path_or_bucket
from jepa_speech.wording import quoted

HELP = "label every frame of a store with the anchor's posteriors, or its nearest centroid"
EXAMPLE = "jepa-speech label --store store --anchor gmm.npz --top-k 16"
LOST = 1e-3  # nats


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", type=path_or_bucket, required=True, help="folder written by `jepa-speech prepare`")
    parser.add_argument(
        "--anchor", type=path_or_bucket, required=True, metavar="ANCHOR.npz", help="written by `jepa-speech fit`"
    )
    parser.add_argument(
        "--top-k",
        type=int,
        metavar="K",
        help=f"components to keep, the rest are pooled (default {TOP_K}; 1 for k-means, which has no more)",
    )
    parser.add_argument(
        "--checkpoint", type=path_or_bucket, metavar="RUN", help="for an anchor of a layer: its folder, if it was moved"
    )
    add_step(parser, default="the one that the anchor names, or else the newest")
    add_part(parser)
    add_cluster(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    if options.cluster:
        refuse_parts("--cluster", options.store)
    run_parts_of("label", options, label)
    results = label(**arguments(options, label), progress=True)
    if results["replaced"]:
        print(f"labelled again: {results['replaced']}", file=sys.stderr)
    if "part" in results:
        merge = f"`jepa-speech inspect {quoted(results['store'])} --merge`"
        print(f"part {results['part']} is written; when all are, {merge} joins them")
        return results
    top_k, components = results["top_k"], results["components"]
    if results["already_labelled"]:
        print(f"{options.store} has been labelled by this anchor with --top-k {top_k} before; nothing to do")
    print(f"labels       {results['labels']}")
    share = results["bytes_per_frame"] / (2 * components)
    print(
        f"size         {results['bytes_per_hour'] / 1e6:.1f} MB per hour of audio, "
        f"{results['bytes_per_frame']:.1f} bytes per frame: {share:.1%} of all {components} in float16"
    )
    print(f"kept         {results['mean_kept_mass']:.5f} of the mass, by {top_k} of {components} at most")
    more = "; a larger --top-k keeps more" if results["mean_kl_dense_to_stored"] > LOST else ""
    print(f"lost         {results['mean_kl_dense_to_stored']:.5f} nats, KL of dense to stored posteriors{more}")
    perplexity = f"perplexity {results['posterior_perplexity']:.2f}"
    print(f"posteriors   entropy {results['posterior_entropy']:.3f} nats, {perplexity}")
    print(f"time         {results['seconds']:.1f} s")
    return results
