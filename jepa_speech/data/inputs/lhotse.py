"""Lhotse's cuts: a stretch of one channel of a recording, with what was said in it."""

from typing import Any

from jepa_speech.data.inputs.entry import Entry, is_positive


def is_cut(row: dict[str, Any]) -> bool:
    return isinstance(row.get("recording"), dict) or row.get("type") in ("MonoCut", "MultiCut", "MixedCut")


def entry(entry: Entry, row: dict[str, Any]) -> Entry:
    """The entry of a cut; refused if it is more than a stretch of a file (mixed, transformed, a command, a URL)."""
    recording = row.get("recording")
    if not isinstance(recording, dict):
        return entry.refused("refused", f"a {row.get('type')} without a recording; save plain cuts to files first")
    if recording.get("transforms"):
        return entry.refused("refused", "a cut whose recording is transformed; save its audio to files first")
    channel = row.get("channel")
    if isinstance(channel, list):
        channel = channel[0] if len(channel) == 1 else None  # several: their mean, as of any file
    sources = [one for one in recording.get("sources") or () if isinstance(one, dict)]
    fitting = [one for one in sources if channel is None or channel in (one.get("channels") or [channel])]
    if len(fitting) != 1 or (channel is None and len(sources) != 1):
        return entry.refused("refused", f"{len(fitting)} files for the channels of one cut; merge them first")
    (source,) = fitting
    if source.get("type") != "file" or not isinstance(source.get("source"), str):
        kind = source.get("type")
        return entry.refused("refused", f"its source is of type {kind!r}; only files are read, nothing is ever run")
    entry = entry.but(source=source["source"], labels=_labels(row))
    start, seconds = row.get("start", 0), row.get("duration", recording.get("duration"))
    if not is_positive(seconds) or not (is_positive(start) or start == 0):
        return entry.refused("bad_duration", f"start {start!r}, duration {seconds!r}: not numbers of seconds")
    if channel is not None and (channels := source.get("channels")):
        channel = channels.index(channel) if len(channels) > 1 else None  # its place in this file
    return entry.but(start=float(start), seconds=float(seconds), channel=channel)


def _labels(row: dict[str, Any]) -> dict[str, Any]:
    """text (joined), and speaker, language, gender where all of a cut's supervisions agree; the cut's own id."""
    spoken = [one for one in row.get("supervisions") or () if isinstance(one, dict)]
    labels = {"manifest_id": row.get("id"), "text": " ".join(one["text"] for one in spoken if one.get("text"))}
    for key in ("speaker", "language", "gender"):
        said = {one.get(key) for one in spoken}
        labels[key] = said.pop() if len(said) == 1 else None
    return {key: value for key, value in labels.items() if value}
