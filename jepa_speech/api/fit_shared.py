"""What every kind of anchor is fitted with: checks before any audio is read, the frames of the passes, results."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jepa_speech.anchors import lloyd
from jepa_speech.anchors.anchor import NORMALIZE, SAVED, Anchor
from jepa_speech.anchors.unfinished import Unfinished
from jepa_speech.api.feature_source import Source, compute_means
from jepa_speech.api.fit_metrics import claim_beside
from jepa_speech.arguments import check_choice
from jepa_speech.cloud.mirror import mirrored
from jepa_speech.errors import UsageError
from jepa_speech.labelling.anchoring import seconds_of
from jepa_speech.labelling.fit_frames import Passes, fitting_passes
from jepa_speech.local_paths import bucket_url
from jepa_speech.lock import locked
from jepa_speech.ownership import claim
from jepa_speech.progress import bar
from jepa_speech.store.store import Store

HOURS = 100.0
ALGORITHMS = ("lloyd", "minibatch")


def check(
    *,
    components: int,
    iterations: int,
    normalize: str,
    seed: int,
    hours: float = HOURS,
    temperature: float = 1.0,
    perplexity: float | None = None,
    algorithm: str = "lloyd",
) -> None:
    """Raises UsageError, naming the argument, if one of `fit_gmm` or `fit_kmeans` is wrong."""
    above_zero = {"components": components, "iterations": iterations, "temperature": temperature, "hours": hours}
    for name, value in above_zero.items():
        if not value > 0:
            raise UsageError(f"{name} = {value:g}: choose one above 0")
    if seed < 0:
        raise UsageError(f"seed = {seed}: choose 0 or more")
    if perplexity is not None and not 1 < perplexity < components:
        raise UsageError(f"perplexity = {perplexity:g}: choose one above 1 and below {components} components")
    check_choice("normalize", normalize, NORMALIZE)
    check_choice("algorithm", algorithm, ALGORITHMS)


@contextmanager
def writing(out: str | Path) -> Iterator[Path]:
    """Yields the local path of an anchor's file while the block fits it, locked, with its folder made.

    Of a URL, it is in the local cache; after the block, the file and those beside it are uploaded. Raises UsageError if
    `out` cannot be a file, and UserError if another process holds the lock.
    """
    remote = mirrored(out)
    if remote is None:
        with _locked(Path(out)):
            yield Path(out)
        return
    mirror, name = remote
    path, stem = mirror.folder / name, Path(name).stem
    names = [f"{stem}.metrics.jsonl", f"{stem}.png", name]
    with _locked(path):
        for one in names:
            mirror.fetch(one)
        yield path
        mirror.upload(names)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"out = {out}: {error.filename} is a file, not a folder") from error
    if out.is_dir():
        raise UsageError(f"out = {out} is a folder: name a file in it, such as {out / 'anchor.npz'}")
    with locked(out.with_name(f".{out.name}.jepa-speech.lock"), "fit"):
        yield


def claim_files(out: Path) -> None:
    """Raises UserError if another program wrote the anchor's file, or one that is written beside it."""
    claim(out, SAVED)
    claim_beside(out)


def frames_to_fit(
    store: Store,
    source: Source,
    components: int,
    normalize: str,
    hours: float,
    seed: int,
    *,
    standardize: bool,
    progress: bool,
) -> Passes:
    """The frames of the store that an anchor is fitted to, and those that it is watched on."""
    compute_means(store, source.extractor, normalize, progress)
    sample = lloyd.seeding_frames(components)
    with bar("features", min(seconds_of(store), hours * 3600), progress) as shown:
        return fitting_passes(store, source.extractor, normalize, hours, seed, sample, standardize, shown.update)


def unfinished(out: Path, kind: str, store: Store, fingerprint: str, arguments: dict[str, Any]) -> Unfinished:
    """Where the fit of these arguments is kept until it is done: beside `out`. fingerprint: of a layer's checkpoint."""
    known = {"kind": kind, "store": store.fingerprint[:12], "checkpoint": fingerprint[:12]}
    same = {f"--{name}": str(value) for name, value in arguments.items()}  # with dashes, as in files of older versions
    return Unfinished(out.with_name(f".{out.name}.unfinished"), known | same)


def identity(out: str | Path, anchor: Anchor) -> dict[str, Any]:
    """What the results of any fit begin with. out: as the user gave it."""
    known = {
        "anchor": bucket_url(str(out)) or str(Path(out)),
        "fingerprint": anchor.fingerprint,
        "features": anchor.features,
        "normalize": anchor.normalize,
        "components": anchor.components,
    }
    layer = {"checkpoint": anchor.checkpoint, "checkpoint_fingerprint": anchor.checkpoint_fingerprint}
    return known | (layer if anchor.checkpoint_fingerprint else {})
