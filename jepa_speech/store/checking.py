"""Checks inputs like `prepare`, without writing anything."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jepa_speech.errors import one_line
from jepa_speech.ingest.audio_source import Rejected, system_errors_as_rejected
from jepa_speech.ingest.decoding import probe
from jepa_speech.ingest.fixes import FIXES
from jepa_speech.ingest.inputs.passed_over import PassedOver
from jepa_speech.ingest.lengths import Lengths, check_seconds
from jepa_speech.ingest.manifest import Entry, entries, nothing_there
from jepa_speech.ingest.recording import compare_duration, recording, rejected_row
from jepa_speech.store.duplicates import listed_once

LISTED = 10_000  # rejects that a check lists; further ones are only counted


def check(
    inputs: Sequence[str | Path],
    root: str | Path | None = None,
    full: bool = False,
    min_seconds: float = 0.0,
    max_seconds: float = 0.0,
    progress: bool = False,
) -> dict[str, Any]:
    """Lists all recordings, checks their containers and reads their headers; returns figures.

    `full` also decodes everything, which takes as long as `prepare`. Recordings below `min_seconds` or above
    `max_seconds` (0: no limit) count as rejects, but not as bad. Raises UserError if there are no recordings.

    The figures: "read", "good" and "reasons" are counts, "decoded" is `full`. "hours" is that of good recordings whose
    header gives a duration. "rejects" has up to LISTED rows as in a store's rejects.jsonl. "first_bad" is one line:
    where, reason, fix. "passed_over" counts items left out, by kind (inputs/passed_over.py).
    """
    check_seconds(min_seconds, max_seconds, "min_seconds, max_seconds")
    lengths = Lengths.of(min_seconds, max_seconds)
    reasons: Counter[str] = Counter()
    seconds, first, read = 0.0, None, 0
    rejects: list[dict[str, Any]] = []
    passed = PassedOver()
    listed = tqdm(entries(inputs, root, passed), "list", unit=" files", disable=not progress, mininterval=0.5)
    for line, _ in tqdm(listed_once(listed), "check", unit=" files", disable=not progress, mininterval=0.5):
        entry, read = Entry(**json.loads(line)), read + 1
        try:
            seconds += _duration(entry, full, lengths) or 0.0
        except Rejected as error:
            reasons[error.reason] += 1
            if not lengths.asked_for(error.reason):
                first = first or _bad_line(entry, error)
            if len(rejects) < LISTED:
                rejects.append(rejected_row(entry, error))
    if not read:
        raise nothing_there(inputs, passed)
    return {
        "read": read,
        "good": read - reasons.total(),
        "hours": seconds / 3600,
        "decoded": full,
        "reasons": dict(reasons),
        "rejects": rejects,
        "first_bad": first,
        "passed_over": passed.found,
    }


def _duration(entry: Entry, full: bool, lengths: Lengths) -> float | None:
    if entry.reason:
        raise Rejected(entry.reason, entry.detail)
    if full:
        row, record = recording(entry, "pcm16", lengths)
        if record is None:
            raise Rejected(row["reason"], row["detail"])
        return row["record"]["duration"]
    with system_errors_as_rejected():
        seconds = probe(entry)
    if seconds is not None:
        compare_duration(seconds, entry)
        lengths.check(seconds)
    return seconds


def _bad_line(entry: Entry, error: Rejected) -> str:
    where = entry.path if entry.manifest is None else entry.manifest
    where += f":{entry.line}" if entry.line else ""
    name = f" {entry.source}:" if entry.manifest and entry.source else ""
    return one_line(f"{where}:{name} {error.reason}: {error.detail}; {FIXES[error.reason]}")
