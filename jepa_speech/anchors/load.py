"""Reading an anchor of either kind from its file."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from jepa_speech import checked
from jepa_speech.anchors.gmm import DiagonalGMM
from jepa_speech.anchors.kmeans import KMeans
from jepa_speech.array_files import read_npz
from jepa_speech.cloud.mirror import local_copy
from jepa_speech.errors import UserError

KINDS: dict[str, type[DiagonalGMM | KMeans]] = {kind.FORMAT: kind for kind in (DiagonalGMM, KMeans)}
TEXTS = ("format", "features", "normalize", "checkpoint", "checkpoint_fingerprint")
OPTIONAL = ("checkpoint", "checkpoint_fingerprint", "rotation")  # not in the file of every anchor
AGAIN = "copy it again, or make it again with `jepa-speech fit`"


def load_anchor(path: str | Path) -> DiagonalGMM | KMeans:
    """Returns an anchor written by `jepa-speech fit`, which may be in a bucket.

    Raises UserError, naming the file and the array, if the file is missing, damaged or not an anchor, or if posteriors
    cannot be computed from its values (see `Anchor.check`).
    """
    try:
        contents: dict[str, Any] = dict(read_npz(local_copy(path), AGAIN))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such anchor; make it with `jepa-speech fit`") from error
    for name in contents.keys() & TEXTS:
        contents[name] = checked.array(contents[name], f"{path}: {name}", shape=(), kind="U").item()
    kind = KINDS.get(contents.pop("format", ""))
    if kind is None:
        raise UserError(f"{path}: not an anchor of this program; make one with `jepa-speech fit`")
    known = [field.name for field in fields(kind)]
    if missing := [name for name in known if name not in contents and name not in OPTIONAL]:
        raise UserError(f"{path}: the array {missing[0]} is missing; {AGAIN}")
    if unknown := sorted(contents.keys() - set(known)):
        raise UserError(f"{path}: unknown array {unknown[0]}; {AGAIN}")
    if "temperature" in contents:
        contents["temperature"] = checked.array(
            contents["temperature"], f"{path}: temperature", shape=(), kind="fiu"
        ).item()
    anchor = kind(**contents)
    anchor.check(str(path))
    return anchor
