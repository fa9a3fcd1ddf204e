"""`jepa_speech.fit_curve`: how much audio an anchor needs, for this corpus, these features, this size.

For each number of hours, two anchors are fitted with two seeds, which draw different recordings and different starts.
Both are evaluated on the same held-out frames: their log-likelihood (inertia for k-means), and the share of frames to
which both give the same label, after matching the components of one to those of the other.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

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
from jepa_speech.api.feature_source import source
from jepa_speech.api.fit_gmm import fit_gmm
from jepa_speech.api.fit_kmeans import fit_kmeans
from jepa_speech.api.fit_shared import check, writing
from jepa_speech.arguments import check_choice
from jepa_speech.cloud.arguments import takes_buckets
from jepa_speech.errors import UsageError, UserError
from jepa_speech.files import read_object, write_json, write_jsonl
from jepa_speech.labelling.fit_frames import heldout_frames
from jepa_speech.ownership import claim, mark
from jepa_speech.probing.plots import MODEL, TARGET, canvas, styled
from jepa_speech.store.store import Store

Row = dict[str, float]

FITS: dict[str, Callable[..., dict[str, Any]]] = {"gmm": fit_gmm, "kmeans": fit_kmeans}

ROWS = b'"agreement": '  # by which `claim` recognises STEM.curve.jsonl


@takes_buckets("store", "checkpoint")
def fit_curve(
    kind: Literal["gmm", "kmeans"],
    store: str | Path,
    out: str | Path,
    hours: Sequence[float],
    *,
    seed: int = 0,
    progress: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Fit anchors to more and more hours, twice each, to show whether more audio helps; `out` is not written.

    Writes STEM.curve.jsonl, STEM.curve.png and the anchors in STEM.curve/ beside `out`. Anchors that are there are not
    fitted again.

    Args:
        hours: of audio to fit on, above 0 and up to the store's.
        seed: of the first fit at each number of hours; the second has seed + 1.
        progress: show bars on stderr.
        options: all other arguments of `fit_gmm` or `fit_kmeans`.

    Returns a dict: `curve`, for each number of hours a dict of `hours`, `first` and `second` (the fits' figures on
    held-out frames: log-likelihood in nats per frame of a mixture, mean squared distance of k-means) and `agreement`
    (the share of held-out frames to which both give the same label), `heldout_frames` (their number), `plot` (path).

    Raises UsageError if an argument is wrong, UserError as `fit_gmm`, and if the folder was made with other arguments.
    """
    check_choice("kind", kind, tuple(FITS))
    bound = inspect.signature(FITS[kind]).bind(store, out, seed=seed, **options)
    bound.apply_defaults()
    given = {name: value for name, value in bound.arguments.items() if name not in ("hours", "progress")}
    check(**{name: value for name, value in given.items() if name in inspect.signature(check).parameters})
    data, hours, out = Store(store), sorted(set(hours)), Path(out)
    if not hours or not hours[0] > 0 or hours[-1] > data.hours:
        wrong = f"hours = {hours[-1]:g}" if hours else "hours is empty"
        raise UsageError(f"{wrong}: choose hours above 0, up to the {data.hours:.2f} of {store}")
    with writing(out):
        table, picture = (out.with_name(f"{out.stem}.curve.{suffix}") for suffix in ("jsonl", "png"))
        claim(table, ROWS)
        claim(picture, mark("picture"))
        found = source(given["features"], given["checkpoint"], given["step"])
        folder = _folder(out, kind, given | {"store": data.fingerprint, "checkpoint": found.fingerprint})
        x = heldout_frames(data, found.extractor, given["normalize"], hours[-1], seed)
        rows = []
        for h in hours:
            pair: list[Anchor] = []
            for number in (seed, seed + 1):
                path = folder / f"{h:g}h-seed{number}.npz"
                if not path.is_file():
                    FITS[kind](store, path, hours=h, seed=number, progress=progress, **options)
                pair.append(load_anchor(path))
            rows.append(compare(pair, x) | {"hours": h})
        write_jsonl(claim(table, ROWS), rows)
        save_figure(picture, drawn(rows, kind))
    return {"curve": rows, "heldout_frames": len(x), "plot": str(picture)}


def compare(pair: list[Anchor], x: np.ndarray) -> Row:
    """Of two anchors on frames x (N, D): `first` and `second`, in nats per frame (a mixture's log-likelihood) or mean
    squared distance (k-means), and `agreement`, the share of frames with one label under the best matching.
    """
    (first, labels), (second, others) = (_on_frames(anchor, x) for anchor in pair)
    table = np.zeros((pair[0].components, pair[1].components))
    np.add.at(table, (labels, others), 1)
    matched = table[linear_sum_assignment(table, maximize=True)].sum()
    return {"first": first, "second": second, "agreement": float(matched / len(x))}


def _on_frames(anchor: Anchor, x: np.ndarray) -> tuple[float, np.ndarray]:
    """Returns log-likelihood or squared distance, averaged over frames x (N, D), and the best components (N,)."""
    arrays, hard = anchor.arrays(), anchor.max_top_k == 1

    @jax.jit
    def figures(part: jax.Array) -> tuple[jax.Array, jax.Array]:
        joint = log_joint(arrays, part)  # (N, K)
        if hard:  # -‖z - μ‖² / 2 but for ‖z‖²
            z = (part - arrays["shift"]) / arrays["scale"]
            z = z @ arrays["rotation"] if "rotation" in arrays else z
            return jnp.square(z).sum(-1) - 2 * joint.max(-1), joint.argmax(-1)
        return jax.nn.logsumexp(joint, axis=-1), joint.argmax(-1)

    found = [(np.asarray(value), int(valid.sum())) for part, valid in batches(x) for value in figures(part)]
    values, labels = (np.concatenate([value[:n] for value, n in found[i::2]]) for i in (0, 1))
    return float(values.mean(dtype=np.float64)), labels


def _folder(out: Path, kind: str, given: dict[str, Any]) -> Path:
    """Makes and returns STEM.curve. Raises UserError if it was made with other arguments."""
    folder = out.with_name(f"{out.stem}.curve")
    same = {"kind": kind} | {name: value for name, value in given.items() if name not in ("out", "step")}
    known = claim(folder / "options.json", b'"components": ')
    if known.is_file() and (before := read_object(known)) != same:
        other = next(name for name in same if before.get(name) != same[name])
        raise UserError(
            f"{folder}: was made with another {other} ({before.get(other)}); remove it, or choose another name"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(known, same)
    return folder


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
