"""Task `abx`: phone discriminability by distances between features, without training.

Items are triphones, from ZeroSpeech's files DIR/abx.{valid,test}.item or, without them, all triples of consecutive
phones in phones.jsonl. Features are not standardised. The layer is chosen on valid and scored on test.
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.features.grid import FRAME_RATE
from jepa_speech.probing import discrimination as KIND
from jepa_speech.probing.asv import speaker_of
from jepa_speech.probing.dataset import Utterance, check_end, read_split, text_lines
from jepa_speech.probing.discrimination import RECIPE
from jepa_speech.probing.phones import SILENCE
from jepa_speech.probing.progress import along
from jepa_speech.probing.segments import Phones, Segment
from jepa_speech.wording import counted

__all__ = ["KIND", "RECIPE", "Item", "read", "read_items", "sequence", "triphones"]

HEADER = ["#file", "onset", "offset", "#phone", "prev-phone", "next-phone", "speaker"]


class Item(NamedTuple):
    """A phone in its context: frames `start` to `end` (exclusive) of its utterance."""

    start: int
    end: int
    phone: str
    context: tuple[str, str]  # the phones before and after
    speaker: str


def read(folder: Path, root: str | Path | None = None) -> dict[str, list[Utterance]]:
    """Returns the utterances of valid and test, with lists of items as targets."""
    splits = {}
    phones: Phones | None = None
    for split in ("valid", "test"):
        utterances, path = read_split(folder, split, speaker_of, root), folder / f"abx.{split}.item"
        if path.is_file():
            splits[split] = with_items(utterances, path)
        else:
            phones = Phones(folder, root) if phones is None else phones
            splits[split] = [replace(u, target=triphones(u.target, u.speaker)) for u in phones.of(utterances)]
    return splits


def frames_of(onset: float, offset: float) -> tuple[int, int]:
    """Returns first and end frame of an interval in seconds, as in ZeroSpeech 2021: frames with (t + ½) / 50 in it."""
    return max(0, math.ceil(onset * FRAME_RATE - 0.5)), math.floor(offset * FRAME_RATE - 0.5) + 1


def triphones(segments: list[Segment], speaker: str) -> list[Item]:
    """Returns an item for the middle phone of every three consecutive phones without silence."""
    items = []
    for before, here, after in zip(segments, segments[1:], segments[2:], strict=False):
        if not {part[0].lower() for part in (before, here, after)} & SILENCE:
            items.append(Item(*frames_of(before[1], after[2]), here[0], (before[0], after[0]), speaker))
    return items


def with_items(utterances: list[Utterance], path: Path) -> list[Utterance]:
    """Returns the utterances with the items of an item file as targets. The file names recordings without extension.

    Raises UserError if no name matches, if a name matches several recordings or a segment, or if an item lies beyond
    the end of its recording. One line on stderr counts the names that are not in the manifest.
    """
    items, known = read_items(path), set()
    ends: dict[str, tuple[float, str]] = {}
    for number, file, end, _ in item_lines(path):
        ends[file] = max(ends.get(file, (0.0, "")), (end, f"{path}:{number}"), key=itemgetter(0))
    for utterance in along(utterances, f"{path.name}: lengths", len(utterances), "file", delay=5):
        stem = Path(utterance.entry.source).stem
        if stem in items and (stem in known or utterance.entry.is_segment):
            raise UserError(f"{path}: {stem} must name one whole recording of the manifest, not {utterance.key}")
        if stem in items:
            end, where = ends[stem]
            check_end(end, where, utterance.entry)
        known.add(stem)
    if unknown := sorted(items.keys() - known):
        line = f"{path}: {len(unknown)} of {counted(len(items), 'recording')} not in the manifest, such as {unknown[0]}"
        if len(unknown) == len(items):
            raise UserError(line)
        print(line, file=sys.stderr)
    return [replace(u, target=items.get(Path(u.entry.source).stem, [])) for u in utterances]


def read_items(path: Path) -> dict[str, list[Item]]:
    """Returns the items of a file in ZeroSpeech's format, by recording. Raises UserError for a malformed line."""
    items: dict[str, list[Item]] = {}
    for _, file, _, item in item_lines(path):
        items.setdefault(file, []).append(item)
    return items


def item_lines(path: Path) -> Iterator[tuple[int, str, float, Item]]:
    """Yields (line, file, end in seconds, item) of each item. Raises UserError for a malformed line."""
    for number, line in text_lines(path):
        fields = line.split()
        if fields == HEADER:
            continue
        try:
            file, onset, offset, phone, before, after, speaker = fields
            if not 0 <= float(onset) < float(offset) < math.inf:
                raise ValueError("times out of order")
            item = Item(*frames_of(float(onset), float(offset)), phone, (before, after), speaker)
        except ValueError as error:
            raise UserError(f"{path}:{number}: '{' '.join(HEADER)}' was expected, not {line!r}") from error
        yield number, file, float(offset), item


def sequence(utterance: Utterance, layers: np.ndarray) -> np.ndarray:
    """Returns the layers (L, T, D) unchanged."""
    return layers
