"""A data directory of Kaldi or ESPnet: wav.scp, and if present segments, text, utt2spk, utt2lang, utt2category.

Commands in wav.scp are refused, never run.
"""

import os
import re
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from jepa_speech.ingest.inputs.entry import Bounds, Entry, is_positive
from jepa_speech.ingest.inputs.line_index import LineIndex, Twice, key_and_rest
from jepa_speech.ingest.inputs.lines import decoded, lines
from jepa_speech.ingest.inputs.reading import Reading

CHANNEL = re.compile(r"[0-9]{0,8}")
ARK = re.compile(r".*\.ark(\.gz)?:\d+(\[.*\])?$")
LABELS = {"text": "text", "speaker": "utt2spk", "language": "utt2lang", "category": "utt2category"}


def listed(folder: Path, reading: Reading) -> Iterator[Entry]:
    """Yields an entry per segment, or per line of wav.scp if there are no segments. Labels are per utterance.

    Paths are relative to `reading.base`: the folder in which the recipe was run, by default `folder`.
    """
    bounds, base = reading.bounds(folder), reading.base(folder)
    with ExitStack() as stack:

        def index(name: str) -> LineIndex | None:
            path = folder / name
            return stack.enter_context(closing(LineIndex(path))) if path.is_file() else None

        labels = {label: found for label, name in LABELS.items() if (found := index(name))}
        if "speaker" not in labels and (folder / "spk2utt").is_file():
            labels["speaker"] = stack.enter_context(closing(_by_utterance(folder / "spk2utt")))
        is_cut = (folder / "segments").is_file()
        recordings = index("wav.scp") if is_cut else None
        utterances = index("segments" if is_cut else "wav.scp")
        assert utterances is not None  # a folder with neither file is not listed here
        for number, line in lines(utterances.path):
            name, _, rest = decoded(line.strip()).replace("\t", " ", 1).partition(" ")
            entry = Entry(source=name, line=number, manifest=str(utterances.path), labels={"manifest_id": name})
            try:
                utterances.get(os.fsencode(name))
                if recordings:
                    entry, rest = _segment(entry, rest, recordings)
            except Twice as error:
                entry = entry.refused("duplicate", str(error))
            entry = _labelled(entry, name, labels)
            yield entry if entry.reason else reading.advised(_file(entry, rest.strip(), base, bounds))
        for file in labels.values():
            count, first = file.unused()
            if count:
                reading.passed.add("label", file.path.name, f"{first} in {file.path}", count)


def _by_utterance(path: Path) -> LineIndex:
    """Returns the speaker of each utterance from spk2utt, whose lines are SPEAKER UTTERANCE UTTERANCE ..."""
    file, numbers = tempfile.TemporaryFile(), array("Q")  # noqa: SIM115 (closed with the index)
    for number, line in lines(path):
        speaker, said = key_and_rest(line)
        for utterance in said.split():
            file.write(utterance + b" " + speaker + b"\n")
            numbers.append(number)
    return LineIndex(path, file, numbers=numbers)


def _labelled(entry: Entry, name: str, labels: dict[str, LineIndex]) -> Entry:
    """Returns the entry of an utterance with its labels. A text may be empty; other empty labels are dropped."""
    try:
        found = {label: file.text(os.fsencode(name)) for label, file in labels.items()}
    except Twice as error:
        return entry if entry.reason else entry.refused("bad_label", str(error))
    found = {label: value for label, value in found.items() if value or (label == "text" and value is not None)}
    return entry.but(labels=entry.labels | found)


def _segment(entry: Entry, rest: str, recordings: LineIndex) -> tuple[Entry, str]:
    """Returns the entry with the times of its segment, and the line of wav.scp of its recording."""
    parts = rest.split()
    try:
        start, end = (float(part) for part in parts[1:3] if "_" not in part)
    except ValueError:
        return entry.refused("bad_segment", "a line is UTTERANCE RECORDING START END [CHANNEL], times in seconds"), ""
    if len(parts) > 4 or not CHANNEL.fullmatch("".join(parts[3:])):
        return entry.refused("bad_channel", f"{' '.join(parts[3:])[:40]!r} after the times is not a channel number"), ""
    channel = int(parts[3]) if len(parts) > 3 else None
    seconds = None if end == -1 else end - start  # -1: to the end
    if not 0 <= start < 1e9 or not (seconds is None or is_positive(seconds)):
        return entry.refused("bad_segment", f"from {start:g} s to {end:g} s"), ""
    if (place := recordings.name(os.fsencode(parts[0]))) is None:
        return entry.refused("missing", f"{parts[0]} is not in {recordings.path}"), ""
    return entry.but(start=start, seconds=seconds, channel=channel), place


def _file(entry: Entry, place: str, base: Path, bounds: Bounds) -> Entry:
    if place.endswith("|") or place.startswith("|"):
        advice = "if it only decodes one file, write that file's path instead"
        return entry.refused("refused", f"a command ({place[:60]}): commands are never run; {advice}")
    if ARK.match(place) or place == "-":
        return entry.refused("refused", f"{place}: only plain paths are read; extract its audio to files first")
    if not place:
        return entry.refused("no_audio_path", "no path after the name")
    return bounds.located(entry.but(source=place, path=str(base / place)))
