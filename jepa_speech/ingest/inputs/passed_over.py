"""Counts of the files and labels that a listing leaves out, so that nothing is skipped silently."""

from collections.abc import Iterable
from typing import Any

from jepa_speech.files import printable

Found = dict[str, dict[str, dict[str, Any]]]  # kind (of SENTENCES) -> what -> {"count", "first"}

SENTENCES = {
    "hidden": ("hidden files and folders, left out", "{count} {what}", ""),
    "suffix": (
        "audio that is not read",
        "{count} {what}",
        ": convert them to FLAC or WAV, for example by ffmpeg -i IN OUT.flac",
    ),
    "beside": (
        "files beside recordings, which are not read as labels in a folder",
        "{count} {what}",
        ": write a manifest, or pack .json and .txt as tar",
    ),
    "archive": ("archives within a folder are not opened", "{count} {what}", ": name them as --input"),
    "manifest": ("manifests within a folder are not read", "{count} {what}", ": name them as --input for their labels"),
    "member": ("members of archives that are neither audio nor .json or .txt", "{count} {what}", ""),
    "column": ("columns of types that give no labels", "{what}", ""),
    "label": ("labels that belong to no recording", "{count} of {what}", ""),
    "text": ("texts left out, because the cut holds only a part of them", "{count} of {what}", ""),
    "recording": ("recordings without a supervision", "{count} of {what}", ""),
    "segment": (
        "rows with times of a segment (start, end, ...) but no offset, read as whole files",
        "{count} of {what}",
        "",
    ),
}
SHOWN = 5  # names printed per kind
KEPT = 1000  # names counted separately per kind; further ones are counted as OTHERS
OTHERS = "others"


class PassedOver:
    """Counters of the items that a listing leaves out. `found` is {kind: {what: {"count", "first"}}}, as for JSON."""

    def __init__(self) -> None:
        self.found: Found = {}

    def add(self, kind: str, what: str, first: str, count: int = 1) -> None:
        """Adds `count` to the counter of `what`; `first` names one item. Names that are not UTF-8 are escaped."""
        of_kind = self.found.setdefault(kind, {})
        what, first = printable(what), printable(first)
        if what not in of_kind and len(of_kind) >= KEPT:
            what = OTHERS
        of_kind.setdefault(what, {"count": 0, "first": first})["count"] += count


def together(several: Iterable[Found]) -> Found:
    """Returns the sum of the counts of several listings."""
    total = PassedOver()
    for found in several:
        for kind, whats in found.items():
            for what, note in whats.items():
                total.add(kind, what, note["first"], note["count"])
    return total.found


def sentences(found: Found) -> list[str]:
    """Returns one line to print for each kind."""
    said = []
    for kind, (sentence, one, remedy) in SENTENCES.items():
        if whats := found.get(kind):
            counts = [one.format(what=what, count=note["count"]) for what, note in whats.items()]
            more = f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
            first = next(iter(whats.values()))["first"]
            said.append(f"{sentence}: {', '.join(counts[:SHOWN])}{more} (first: {first}){remedy}")
    return said
