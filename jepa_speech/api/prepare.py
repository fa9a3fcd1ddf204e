"""`jepa_speech.prepare`: recordings → store; `jepa_speech.check_inputs` looks through them and writes nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jepa_speech.arguments import Part
from jepa_speech.cloud.arguments import takes_buckets
from jepa_speech.store import checking
from jepa_speech.store import prepare as preparing
from jepa_speech.store.chunks import SHARD_MB
from jepa_speech.store.inspection import fields_of
from jepa_speech.store.store import Store

Inputs = str | Path | Sequence[str | Path]


@takes_buckets("inputs", "out", "root")
def prepare(
    inputs: Inputs,
    out: str | Path,
    *,
    root: str | Path | None = None,
    codec: Literal["flac", "pcm16"] = "flac",
    shard_mb: float = SHARD_MB,
    part: Part | None = None,
    workers: int | None = None,
    max_reject_fraction: float = 0.01,
    min_seconds: float = 0.0,
    max_seconds: float = 0.0,
    progress: bool = False,
) -> dict[str, Any]:
    """Write the store `out` of all recordings in `inputs`: folders, manifests and archives (docs/manifests.md).

    Inputs, recordings that manifests name, `root` and `out` may be in buckets. A store in a bucket is written in the
    local cache and then uploaded. If a bucket does not answer, the call fails and can be repeated; recordings that are
    missing there are rejected.

    After a kill, the same call resumes; it does nothing if the store is complete.

    Args:
        root: allow recordings anywhere below this folder, and begin paths of recipes in it; default: only in their
            input's own folder.
        codec: "flac", or "pcm16", which reads faster and is about twice as large.
        shard_mb: MB of the inputs' files that go into a shard.
        part: (i, n) writes only the i-th of n parts, for an array job; `merge_parts` joins them.
        workers: processes, by default one per core.
        max_reject_fraction: if a larger share of the recordings is unusable, the call fails.
        min_seconds, max_seconds: shorter and longer recordings are rejected (too_short, too_long; 0: any length),
            without counting towards `max_reject_fraction`.
        progress: show bars on stderr.

    Returns a dict: `store` (path), `records`, `rejected`, `read` and `duplicates` (numbers of recordings), `hours`,
    `codec`, `fingerprint`, `reasons` (rejects by reason), `passed_over` (what was left out, by kind), `bytes`,
    `shards`, `fields` (how many recordings have each label), and `whole`, which is True. Of a part only `store`,
    `part` ("i/n"), `shards`, `read` and `whole`, which is False.

    Raises UsageError if an argument is wrong. Raises UserError if there is nothing to store, too many recordings are
    rejected, `out` holds something else, another process writes the same part, or the disk is full.
    """
    results = preparing.prepare(
        _listed(inputs),
        out,
        codec,
        workers,
        max_reject_fraction,
        shard_mb=shard_mb,
        part=part,
        root=root,
        min_seconds=min_seconds,
        max_seconds=max_seconds,
        progress=progress,
    )
    return results | ({"fields": fields_of(Store(results["store"]), progress)} if results["whole"] else {})


@takes_buckets("inputs", "root")
def check_inputs(
    inputs: Inputs,
    *,
    root: str | Path | None = None,
    full: bool = False,
    min_seconds: float = 0.0,
    max_seconds: float = 0.0,
    progress: bool = False,
) -> dict[str, Any]:
    """List all recordings in `inputs` and open each as `prepare` would, and write nothing.

    Args:
        full: also decode every recording, not only its header.
        root, min_seconds, max_seconds, progress: see `prepare`.

    Returns a dict: `read` and `good` (numbers of recordings), `hours` (of good ones), `decoded` (= full), `reasons`
    (rejects by reason), `rejects` (the first 10,000, as rows of rejects.jsonl), `first_bad` (one line that says where,
    why and what to do, or None), `passed_over` (what was left out, by kind).

    Raises UserError if there are no recordings, and UsageError if an argument is wrong; bad recordings are no error.
    """
    return checking.check(_listed(inputs), root, full, min_seconds, max_seconds, progress)


def _listed(inputs: Inputs) -> Sequence[str | Path]:
    return [inputs] if isinstance(inputs, (str, Path)) else inputs
