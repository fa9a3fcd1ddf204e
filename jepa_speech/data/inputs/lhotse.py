"""Lhotse's cuts: a stretch of one channel of a recording, with what was said in it."""

from typing import Any

from jepa_speech.data.inputs.entry import Entry, is_positive


def is_cut(row: dict[str, Any]) -> bool:
    return isinstance(row.get("recording"), dict) or str(row.get("type")) in ("MonoCut", "MultiCut", "MixedCut")


def entry(entry: Entry, row: dict[str, Any]) -> Entry:
    """The entry of a cut; refused if it is more than a stretch of a file (mixed, transformed, a command, a URL)."""
    recording = row.get("recording")
    if not isinstance(recording, dict):
        return entry.refused("refused", f"a {row.get('type')} without a recording; save plain cuts to files first")
    if recording.get("transforms"):
        return entry.refused("refused", "a cut whose recording is transformed; save its audio to files first")
    sources = _dicts(recording.get("sources"))
    channels = row.get("channel") if isinstance(row.get("channel"), list) else [row.get("channel")]
    channels = [channel for channel in channels if isinstance(channel, int)]
    fitting = [one for one in sources if not channels or set(channels) <= set(_channels(one) or channels)]
    if len(fitting) != 1:
        return entry.refused("refused", f"{len(fitting)} files for the channels of one cut; merge them first")
    (source,) = fitting
    if source.get("type") != "file" or not isinstance(source.get("source"), str):
        kind = source.get("type")
        return entry.refused("refused", f"its source is of type {kind!r}; only files are read, nothing is ever run")
    entry = entry.but(source=source["source"], labels=_labels(row))
    start, seconds = row.get("start", 0), row.get("duration", recording.get("duration"))
    if not is_positive(seconds) or not (is_positive(start) or start == 0):
        return entry.refused("bad_duration", f"start {start!r}, duration {seconds!r}: not numbers of seconds")
    if start == 0 and seconds == recording.get("duration"):
        entry = entry.but(duration=float(seconds))
    else:
        entry = entry.but(start=float(start), seconds=float(seconds))
    held = _channels(source)
    if len(held) <= 1 or set(channels) == set(held) or not channels:
        return entry  # all of the file
    if len(channels) > 1:
        return entry.refused("refused", f"{len(channels)} of the {len(held)} channels of a file; cut one, or all")
    return entry.but(channel=held.index(channels[0]))


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _channels(source: dict[str, Any]) -> list[int]:
    """The numbers of a file's channels, in its order; empty if it does not say."""
    channels = source.get("channels")
    return [one for one in channels if isinstance(one, int)] if isinstance(channels, list) else []


def _labels(row: dict[str, Any]) -> dict[str, Any]:
    """text (joined), and speaker, language, gender where all of a cut's supervisions agree; the cut's own id."""
    spoken = _dicts(row.get("supervisions"))
    texts = [one["text"] for one in spoken if isinstance(one.get("text"), str)]
    labels = {"manifest_id": row.get("id"), "text": " ".join(texts)}
    for key in ("speaker", "language", "gender"):
        said = {one[key] for one in spoken if isinstance(one.get(key), str)}
        labels[key] = said.pop() if len(said) == 1 else None
    return {key: value for key, value in labels.items() if value}
