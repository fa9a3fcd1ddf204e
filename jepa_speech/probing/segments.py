"""Phones with their times, from DIR/phones.jsonl."""

import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from jepa_speech import checked
from jepa_speech.errors import UserError
from jepa_speech.ingest.manifest import Entry, entries
from jepa_speech.probing.dataset import OF_THE_FILE, Utterance, check_end, where_of
from jepa_speech.probing.progress import along
from jepa_speech.wording import counted

Segment = tuple[str, float, float]  # label, start and end in seconds

SLACK = 1e-3  # seconds by which neighbours may overlap, because times are rounded


class Phones:
    """The contents of FOLDER/phones.jsonl: the phones of each recording in order of time, without overlaps.

    root: see `ingest.manifest.entries`. Raises UserError, naming file and line, for malformed rows.
    """

    def __init__(self, folder: Path, root: str | Path | None = None) -> None:
        self.path = folder / "phones.jsonl"
        self._known: dict[str, tuple[Entry, list[Segment]]] = {}
        self._used: set[str] = set()
        if not self.path.is_file():
            raise UserError(f"{self.path}: no such file")
        for entry in entries([self.path], root, anywhere=True):
            where = where_of(entry)
            if entry.reason not in ("", *OF_THE_FILE):
                raise UserError(f"{where}: {entry.detail} ({entry.reason})")
            if entry.is_segment:
                raise UserError(f"{where}: times of phones count from the start of the file; remove the field offset")
            found, key = segments(entry.labels, where), _key(entry)
            if key in self._known and self._known[key][1] != found:
                raise UserError(f"{where}: {entry.source} has other phones in {where_of(self._known[key][0])}")
            self._known[key] = entry, found

    def of(self, utterances: Iterable[Utterance]) -> list[Utterance]:
        """Returns the utterances with their phones as targets; times are from the start of the utterance.

        Raises UserError if an utterance has no phones, or phones beyond the end of its file.
        """
        utterances = list(utterances)
        missing = [u.key for u in utterances if _key(u.entry) not in self._known]
        if missing:
            raise UserError(
                f"{self.path}: no phones for {missing[0]}"
                + (f" and {counted(len(missing) - 1, 'other recording')}" if missing[1:] else "")
                + "; align them or remove them from the manifests"
            )
        new = list({_key(u.entry): None for u in utterances if _key(u.entry) not in self._used})
        for key in along(new, f"{self.path.name}: lengths", len(new), "file", delay=5):
            entry, found = self._known[key]
            if found:
                check_end(max(end for _, _, end in found), f"{where_of(entry)}: phones", entry)
            self._used.add(key)
        return [replace(u, target=within(self._known[_key(u.entry)][1], u.entry)) for u in utterances]

    def report_unused(self) -> None:
        """Prints one line on stderr if there are rows of recordings that are not in a manifest."""
        unused = [entry for key, (entry, _) in self._known.items() if key not in self._used]
        if unused:
            first = f"{where_of(unused[0])}: {unused[0].source} is not in a manifest"
            print(first + (f" (and {len(unused) - 1} more)" if unused[1:] else ""), file=sys.stderr)


def segments(labels: dict[str, Any], where: str) -> list[Segment]:
    """Returns the field `phones`, [[label, start, end], ...] in seconds, sorted by time.

    Raises UserError for other shapes and types, times that are negative or not finite, an end before its start, and
    intervals that overlap by more than SLACK.
    """
    found: list[Segment] = []
    for number, part in enumerate(checked.field(labels, "phones", list, where), 1):
        here = f"{where}: phones, interval {number}"
        if not isinstance(part, list) or len(part) != 3:
            raise UserError(f"{here}: {checked.shown(part)}: expected [label, start, end] in seconds")
        row = dict(zip(("label", "start", "end"), part, strict=True))
        label = str(checked.field(row, "label", (str, int), here))
        start, end = (float(checked.field(row, name, (int, float), here)) for name in ("start", "end"))
        if not 0 <= start <= end:
            raise UserError(f"{here}: from {start:g} to {end:g} s: expected 0 <= start <= end")
        found.append((label, start, end))
    found.sort(key=lambda segment: segment[1:])
    for (before, start, end), (after, begin, _) in pairwise(found):
        if begin < end - SLACK:
            raise UserError(
                f"{where}: phones: {before} lasts from {start:g} to {end:g} s, but {after} begins at {begin:g}"
            )
    return found


def within(phones: list[Segment], entry: Entry) -> list[Segment]:
    """Returns the phones in the segment of an entry, with times from its start. Phones at its edges are cut."""
    if not entry.is_segment:
        return phones
    start, end = entry.start, float("inf") if entry.seconds is None else entry.start + entry.seconds
    return [(label, max(a, start) - start, min(b, end) - start) for label, a, b in phones if a < end and b > start]


def _key(entry: Entry) -> str:
    """Returns a key of a recording: its path, or for archives and tables, its name beside the manifest."""
    held = bool(entry.span or entry.cell)
    return os.path.normpath(Path(entry.path).parent / entry.source if held else entry.path)
