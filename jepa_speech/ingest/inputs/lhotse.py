"""Lhotse's recordings, and its cuts: segments of a channel of a recording, with their transcripts."""

from pathlib import Path
from typing import Any

from jepa_speech.ingest.inputs.entry import Entry, is_number, is_positive
from jepa_speech.ingest.inputs.passed_over import PassedOver
from jepa_speech.local_paths import bucket_url

TOLERANCE = 0.02  # s, for rounded times
LABELS = ("speaker", "language", "gender")


def is_cut(row: dict[str, Any]) -> bool:
    return isinstance(row.get("recording"), dict) or str(row.get("type")) in ("MonoCut", "MultiCut", "MixedCut")


def is_recording(row: dict[str, Any]) -> bool:
    return {"id", "sources", "sampling_rate"} <= row.keys()


def whole(recording: dict[str, Any]) -> dict[str, Any]:
    """Returns a cut of a whole recording."""
    times = {"start": 0, "duration": recording.get("duration")}
    return {"id": recording["id"], **times, "channel": recording.get("channel_ids"), "recording": recording}


def entry(entry: Entry, row: dict[str, Any], passed: PassedOver) -> Entry:
    """Returns the entry of a cut; refused unless it is a plain segment of a file (not mixed, transformed or a URL)."""
    recording = row.get("recording")
    if not isinstance(recording, dict):
        return entry.refused("refused", f"a {row.get('type')} without a recording; save its audio to files first")
    if recording.get("transforms"):
        return entry.refused("refused", "a cut of a transformed recording; save its audio to files first")
    sources = _dicts(recording.get("sources"))
    for named in (row.get("channel"), *(source.get("channels") for source in sources)):
        if not all(_is_channel(one) for one in _listed(named)):
            return entry.refused("bad_channel", f"channel {str(named)[:40]!r} is not a whole number")
    channels = _listed(row.get("channel"))
    fitting = [one for one in sources if not channels or set(channels) <= set(_listed(one.get("channels")) or channels)]
    if len(fitting) != 1:
        return entry.refused("refused", f"the channels of one cut are in {len(fitting)} files; merge them first")
    (source,) = fitting
    place = source.get("source")
    in_bucket = source.get("type") == "url" and isinstance(place, str) and "://" in place and bucket_url(place)
    if not in_bucket and (source.get("type") != "file" or not isinstance(place, str)):
        what = f"of type {source.get('type')!r} ({str(source.get('source'))[:60]})"
        return entry.refused("refused", f"its source is {what}; only files are read, commands are never run")
    entry = entry.but(source=source["source"])
    start, seconds = row.get("start", 0), row.get("duration", recording.get("duration"))
    if not is_positive(seconds) or not (is_positive(start) or start == 0):
        return entry.refused("bad_duration", f"start {start!r}, duration {seconds!r}: numbers of seconds expected")
    if start == 0 and seconds == recording.get("duration"):
        entry = entry.but(duration=float(seconds))
    else:
        entry = entry.but(start=float(start), seconds=float(seconds))
    entry = _labelled(entry, row, seconds, channels, passed)
    held = _listed(source.get("channels"))
    if not held and len(channels) == 1:  # the channel's number in the file
        return entry.but(channel=channels[0])
    if len(held) <= 1 or set(channels) == set(held) or not channels:
        return entry  # all channels of the file
    if len(channels) > 1:
        return entry.refused("refused", f"{len(channels)} of the {len(held)} channels of a file; cut one or all")
    return entry.but(channel=held.index(channels[0]))


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _listed(channels: Any) -> list[Any]:
    """Returns a list of channel numbers from a list, one number or None."""
    return channels if isinstance(channels, list) else [] if channels is None else [channels]


def _is_channel(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _labelled(entry: Entry, row: dict[str, Any], seconds: float, channels: list[int], passed: PassedOver) -> Entry:
    """Returns the entry with the labels of the supervisions in its cut. Their times are relative to the cut's start.

    text: the texts joined in order of their starts. It is left out if a supervision with text overlaps the cut only
    partly or gives no time. speaker, language, gender: present if all supervisions that overlap the cut agree.
    """
    if wrong := _wrong(row.get("supervisions")):
        return entry.refused("bad_label", wrong)
    inside, in_part = [], []
    for said in row.get("supervisions") or []:
        if said.get("start") is None or said.get("duration") is None:
            in_part.append(said)
            continue
        start, end = said["start"], said["start"] + said["duration"]
        spoken_in = _listed(said.get("channel"))
        is_elsewhere = bool(channels and spoken_in) and not set(spoken_in) & set(channels)
        if start >= -TOLERANCE and end <= seconds + TOLERANCE and not is_elsewhere:
            inside.append(said)
        elif min(end, seconds) - max(start, 0) > TOLERANCE:
            in_part.append(said)
    inside.sort(key=lambda said: said["start"])
    texts = [said["text"] for said in inside if said.get("text")]
    if any(said.get("text") for said in in_part):
        texts = []
        passed.add("text", Path(entry.manifest or "").name, f"{entry.manifest}:{entry.line}")
    labels = {"id": row.get("id"), "text": " ".join(texts) or None}
    for key in LABELS:
        values = {said.get(key) for said in inside + in_part} - {None, ""}
        labels[key] = values.pop() if len(values) == 1 else None
    return entry.labelled(labels)


def _wrong(supervisions: Any) -> str:
    """Returns a message about a wrong type in a cut's supervisions; "" if all are right."""
    if supervisions is None:
        return ""
    if not isinstance(supervisions, list) or not all(isinstance(said, dict) for said in supervisions):
        return "its supervisions are not a list of objects"
    for said in supervisions:
        for key, kinds in (("text", str), *((key, str | int) for key in LABELS)):
            if not isinstance(said.get(key), kinds | None) or isinstance(said.get(key), bool):
                return f"a supervision's {key} {str(said[key])[:40]!r} is not text"
        if not all(_is_channel(one) for one in _listed(said.get("channel"))):
            return f"a supervision's channel {str(said['channel'])[:40]!r} is not a whole number"
        for key in ("start", "duration"):
            value = said.get(key)
            if value is not None and not (is_number(value) and (value >= 0 or key == "start")):
                return f"a supervision's {key} {str(value)[:40]!r} is not a number of seconds"
    return ""
