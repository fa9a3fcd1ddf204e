"""`jepa-speech fit KIND --curve`: how much audio an anchor needs, for this corpus, these features, this size.

Each number of hours is fitted twice, with two seeds, and so to other recordings from other starts. Both are held
against the same held-out frames: what more hours bring shows as likelihood (inertia for k-means), and as the share of
frames that both fits give the same label, once the components of one are matched to those of the other.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import linear_sum_assignment

from jepa_speech.analysis.report import save_figure
from jepa_speech.anchors.anchor import Anchor
from jepa_speech.anchors.frames import batches
from jepa_speech.anchors.gmm import log_joint
from jepa_speech.anchors.load import load_anchor
from jepa_speech.cli.feature_source import source
from jepa_speech.errors import UsageError, UserError
from jepa_speech.files import read_object, write_json, write_jsonl
from jepa_speech.labelling.fit_frames import heldout_frames
from jepa_speech.ownership import claim, mark
from jepa_speech.probe.plots import MODEL, TARGET, canvas, styled
from jepa_speech.store.store import Store

Row = dict[str, float]

ROWS = b'"agreement": '  # by which `claim` recognises STEM.curve.jsonl


def add_curve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--curve",
        nargs="+",
        type=float,
        metavar="H",
        help="no anchor but a curve: fit on so many hours each, twice, and show what more of them bring",
    )


def run(options: argparse.Namespace, fit: Callable[[argparse.Namespace], dict[str, Any]]) -> dict[str, Any]:
    """Fits what is missing of the curve's anchors, and writes STEM.curve.jsonl and STEM.curve.png beside them."""
    store, hours = Store(options.store), sorted(set(options.curve))
    if not hours[0] > 0 or hours[-1] > store.hours:
        raise UsageError(f"--curve {hours[-1]:g}: choose hours above 0, up to the {store.hours:.2f} of {options.store}")
    out = Path(options.out)
    table, picture = (out.with_name(f"{out.stem}.curve.{kind}") for kind in ("jsonl", "png"))
    claim(table, ROWS)
    claim(picture, mark("picture"))
    folder = _folder(options, store)
    features = source(options.features, options.checkpoint, options.step).extractor
    x = heldout_frames(store, features, options.normalize, hours[-1], options.seed)
    rows = []
    for h in hours:
        pair: list[Anchor] = []
        for seed in (options.seed, options.seed + 1):
            out = folder / f"{h:g}h-seed{seed}.npz"
            if not out.is_file():
                fit(argparse.Namespace(**vars(options) | {"hours": h, "seed": seed, "out": str(out)}))
            pair.append(load_anchor(out))
        rows.append(compare(pair, x) | {"hours": h})
    write_jsonl(claim(table, ROWS), rows)
    save_figure(picture, drawn(rows, options.kind))
    print(f"\n{'hours':>8} {_quality(options.kind):>28} {'same label':>11}")
    for row in rows:
        print(f"{row['hours']:8g} {row['first']:13.4f} {row['second']:14.4f} {row['agreement']:10.1%}")
    print(f"curve        {picture}  ({len(x)} held-out frames)")
    return {"curve": rows, "heldout_frames": len(x), "plot": str(picture)}


def compare(pair: list[Anchor], x: np.ndarray) -> Row:
    """Of two anchors on frames x (N, D): `first` and `second`, in nats per frame (a mixture's log-likelihood) or mean
    squared distance (k-means), and `agreement`, the share of frames with one label under the best matching.
    """
    (first, labels), (second, others) = (_judge(anchor, x) for anchor in pair)
    table = np.zeros((pair[0].components, pair[1].components))
    np.add.at(table, (labels, others), 1)
    matched = table[linear_sum_assignment(table, maximize=True)].sum()
    return {"first": first, "second": second, "agreement": float(matched / len(x))}


def _judge(anchor: Anchor, x: np.ndarray) -> tuple[float, np.ndarray]:
    """How well it fits frames x (N, D), and their most likely components (N,)."""
    arrays, hard = anchor.arrays(), anchor.max_top_k == 1

    @jax.jit
    def judge(part: jax.Array) -> tuple[jax.Array, jax.Array]:
        joint = log_joint(arrays, part)  # (N, K)
        if hard:  # -‖z - μ‖² / 2 but for ‖z‖²
            z = (part - arrays["shift"]) / arrays["scale"]
            z = z @ arrays["rotation"] if "rotation" in arrays else z
            return jnp.square(z).sum(-1) - 2 * joint.max(-1), joint.argmax(-1)
        return jax.nn.logsumexp(joint, axis=-1), joint.argmax(-1)

    found = [(np.asarray(value), int(valid.sum())) for part, valid in batches(x) for value in judge(part)]
    values, labels = (np.concatenate([value[:n] for value, n in found[i::2]]) for i in (0, 1))
    return float(values.mean(dtype=np.float64)), labels


def _folder(options: argparse.Namespace, store: Store) -> Path:
    """STEM.curve, made for these options; raises UserError if it was for others."""
    out = Path(options.out)
    folder = out.with_name(f"{out.stem}.curve")
    left_out = ("hours", "out", "curve", "json", "run", "verb", "overrides", "store", "checkpoint", "step")
    same = {name: value for name, value in vars(options).items() if name not in left_out}
    same |= {
        "store": store.fingerprint,
        "checkpoint": source(options.features, options.checkpoint, options.step).fingerprint,
    }
    known = claim(folder / "options.json", b'"components": ')
    if known.is_file() and (before := read_object(known)) != same:
        other = next(name for name in same if before.get(name) != same[name])
        raise UserError(f"{folder}: of another --{other} ({before.get(other)}); remove it, or choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(known, same)
    return folder


def _quality(kind: str) -> str:
    return "inertia, of both fits" if kind == "kmeans" else "nats per frame, of both fits"


@styled
def drawn(rows: list[Row], kind: str) -> Figure:
    figure, ((left, right),) = canvas(columns=2, size=(8, 3.4))
    hours = [row["hours"] for row in rows]
    for name, colour in (("first", MODEL), ("second", TARGET)):
        left.plot(hours, [row[name] for row in rows], "o-", color=colour, ms=4, label=f"{name} seed")
    left.set_title("Held out")
    left.set_ylabel("mean squared distance" if kind == "kmeans" else "log-likelihood, nats per frame")
    left.legend()
    right.plot(hours, [100 * row["agreement"] for row in rows], "o-", color=MODEL, ms=4)
    right.set_title("Same label by both seeds' fits")
    right.set_ylabel("% of frames")
    for axes in (left, right):
        axes.set_xlabel("hours fitted to")
        axes.set_xscale("log")
        axes.set_xticks(hours, [f"{h:g}" for h in hours])
        axes.minorticks_off()
        axes.ticklabel_format(axis="y", useOffset=False)
    right.set_ylim(0, math.ceil(max(100 * row["agreement"] for row in rows) / 10 + 1e-9) * 10)
    return figure
