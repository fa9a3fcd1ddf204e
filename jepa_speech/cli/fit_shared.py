"""What every kind of anchor is fitted with: options, checks before any audio is read, features, progress."""

import argparse
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from jepa_speech.anchors.anchor import NORMALIZE, SAVED, Anchor
from jepa_speech.anchors.unfinished import Unfinished
from jepa_speech.cli.feature_source import FEATURES, feature_name
from jepa_speech.cli.fit_metrics import claim_beside
from jepa_speech.cli.step_option import add_step
from jepa_speech.errors import UsageError
from jepa_speech.features import grid
from jepa_speech.labelling.anchoring import feature_means, seconds_of
from jepa_speech.labelling.extractors import Extractor
from jepa_speech.ownership import claim
from jepa_speech.store.feature_means import means_path
from jepa_speech.store.store import Store
from jepa_speech.wording import counted, duration

HOURS = 100.0


def add_shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", required=True, help="folder written by `jepa-speech prepare`")
    parser.add_argument("--features", type=feature_name, metavar="FEATURES", help=FEATURES)
    parser.add_argument(
        "--checkpoint",
        metavar="RUN",
        help="for layer:N: a run folder, or one of transformers",
    )
    add_step(parser)
    parser.add_argument(
        "--normalize",
        choices=NORMALIZE,
        default="level",
        help="level: audio at level 1; mean: also less each recording's mean feature vector",
    )
    parser.add_argument("--seed", type=int, default=0)


def hours(text: str) -> float:
    """For argparse: a number, or `all`."""
    return math.inf if text == "all" else float(text)


def add_hours(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--hours",
        type=hours,
        default=HOURS,
        metavar="H",
        help=f"of audio to fit on, whole recordings drawn by the seed (default {HOURS:g}), or `all`; "
        "frames beyond 2 GB are computed anew in each pass",
    )


def unfinished(options: argparse.Namespace, store: Store, fingerprint: str) -> Unfinished:
    """Where the fit of these options is kept until it is done: beside --out. `fingerprint`: of a layer's checkpoint."""
    names: tuple[str, ...] = ("components", "iterations", "features", "normalize", "hours", "seed")
    names += ("algorithm", "standardize") if options.kind == "kmeans" else ("temperature", "perplexity")
    known = {"kind": options.kind, "store": store.fingerprint[:12], "checkpoint": fingerprint[:12]}
    same = {f"--{name}": str(getattr(options, name)) for name in names}
    out = Path(options.out)
    return Unfinished(out.with_name(f".{out.name}.unfinished"), known | same)


def check(options: argparse.Namespace) -> None:
    """Raises UsageError before any audio is read."""
    for name in ("components", "iterations", "temperature", "hours"):
        if not getattr(options, name, 1) > 0:
            raise UsageError(f"--{name} {getattr(options, name):g}: choose one above 0")
    if options.seed < 0:
        raise UsageError(f"--seed {options.seed}: choose 0 or more")
    out = Path(options.out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"--out {out}: {error.filename} is a file, not a folder") from error
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder: name a file in it, such as {out / f'{options.kind}.npz'}")
    if not options.curve:
        claim(out, SAVED)
        claim_beside(out)


@contextmanager
def bar(what: str, seconds: float) -> Iterator[tqdm]:
    """Shows a progress bar of about this many seconds of audio while the block runs; it ends at 100%.

    Fewer may be needed: a fit converges early, and labels go on after a kill.
    """
    with tqdm(total=math.ceil(seconds), desc=what, unit="s", unit_scale=True, file=sys.stderr) as progress:
        yield progress
        progress.total = progress.n


def compute_means(store: Store, features: Extractor, normalize: str) -> None:
    """The recordings' mean feature vectors, where they are needed and not kept yet."""
    if normalize == "mean" and not means_path(store, features.key).is_file():
        with bar("means", seconds_of(store)) as progress:
            feature_means(store, features, progress.update)


def identity(options: argparse.Namespace, anchor: Anchor) -> dict[str, str | int]:
    """What --json says first of any anchor."""
    known: dict[str, str | int] = {
        "anchor": str(options.out),
        "fingerprint": anchor.fingerprint,
        "features": anchor.features,
        "normalize": anchor.normalize,
        "components": anchor.components,
    }
    layer = {"checkpoint": anchor.checkpoint, "checkpoint_fingerprint": anchor.checkpoint_fingerprint}
    return known | (layer if anchor.checkpoint_fingerprint else {})


def print_head(options: argparse.Namespace, anchor: Anchor, frames: int, recordings: int) -> None:
    of = f" of {anchor.checkpoint}" if anchor.checkpoint else ""
    print(f"anchor       {options.out}  ({anchor.features}{of}, normalized by {anchor.normalize})")
    audio = duration(frames / grid.FRAME_RATE / 3600)
    print(f"frames       {frames:,} ({audio}) of {counted(recordings, 'recording')}")
