"""The labelled recordings of a probe or of `transcribe --manifest`, read from any manifest that `prepare` reads."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jepa_speech import checked
from jepa_speech.errors import UserError
from jepa_speech.ingest import recording
from jepa_speech.ingest.audio_source import Rejected, system_errors_as_rejected
from jepa_speech.ingest.decoding import probe, slack
from jepa_speech.ingest.inputs.entry import Entry
from jepa_speech.ingest.inputs.lines import lines
from jepa_speech.ingest.inputs.passed_over import PassedOver, sentences
from jepa_speech.ingest.manifest import entries
from jepa_speech.probing.splits import manifests_of

OF_THE_FILE = ("missing", "unreadable")  # reasons about the audio file of a well-formed row


@dataclass(frozen=True)
class Utterance:
    """A labelled recording, or a labelled segment of one.

    key: the name in results, by which systems are compared: the path in the manifest, for a segment with its times in
    seconds, for a repeated row with a number.
    """

    key: str
    entry: Entry
    target: Any
    speaker: str = ""  # '' if the manifest does not name one

    @property
    def path(self) -> Path:
        return Path(self.entry.path)


Read = Callable[[Mapping[str, Any], str], Any]  # (labels of a row without nulls, its place for messages) -> target


def no_target(labels: Mapping[str, Any], where: str) -> None:
    """Returns None, for manifests whose targets are in other files."""


def read_split(
    folder: Path, split: str, read: Read = no_target, root: str | Path | None = None, prefix: str = ""
) -> list[Utterance]:
    """Returns the utterances of a split of a folder (splits.py). root: see `ingest.manifest.entries`."""
    return read_manifest(manifests_of(folder, split, prefix), read, root)


def read_manifest(
    paths: Path | Sequence[str | Path], read: Read = no_target, root: str | Path | None = None
) -> list[Utterance]:
    """Returns the utterances of a manifest of any kind that `prepare` reads, or of several parts of one.

    Recordings may be in any folder; `check_files` checks that they exist. Labels that are left out, such as a text that
    a cut holds only in part, are counted in the error or on stderr. Raises UserError, naming file and line, for a row
    that `prepare` would refuse, a speaker of another type, or an empty manifest; and the errors of `read`.
    """
    paths, passed = [paths] if isinstance(paths, Path) else paths, PassedOver()
    try:
        utterances = _utterances(paths, read, root, passed)
    except UserError as error:
        raise UserError("; ".join([str(error), *sentences(passed.found)])) from error
    for line in sentences(passed.found):
        print(f"{paths[0]}: {line}", file=sys.stderr)
    return utterances


def _utterances(
    paths: Sequence[str | Path], read: Read, root: str | Path | None, passed: PassedOver
) -> list[Utterance]:
    utterances: list[Utterance] = []
    names: dict[str, int] = {}
    for entry in entries(paths, root, passed, anywhere=True):
        where = where_of(entry)
        if entry.reason not in ("", *OF_THE_FILE):
            raise UserError(f"{where}: {entry.detail} ({entry.reason})")
        speaker = class_name(entry.labels, "speaker", where) if entry.labels.get("speaker", "") != "" else ""
        name = entry.source
        if entry.is_segment:
            name += f"@{entry.start:g}" + (f"+{entry.seconds:g}" if entry.seconds is not None else "")
        if entry.channel is not None:
            name += f"#{entry.channel}"
        names[name] = names.get(name, 0) + 1
        key = name if names[name] == 1 else f"{name} ({names[name]})"
        utterances.append(Utterance(key, entry, read(entry.labels, where), speaker))
    if not utterances:
        raise UserError(f"{paths[0]}: the split is empty")
    return utterances


def check_files(utterances: Iterable[Utterance]) -> None:
    """Raises UserError for the first recording that is missing. Called before any long work."""
    for utterance in utterances:
        if (entry := utterance.entry).reason:
            raise UserError(f"{where_of(entry)}: {entry.detail} ({entry.reason}); fix it or remove its row")


def check_end(end: float, where: str, entry: Entry) -> None:
    """Raises UserError, beginning with `where`, if a time (s, from the start of the file) lies beyond the file's end.

    Skips a recording that cannot be used, which other checks report.
    """
    try:
        with system_errors_as_rejected():
            seconds = probe(entry.but(start=0.0, seconds=None))
    except Rejected:
        return
    if seconds is not None and end - seconds > slack(seconds):
        raise UserError(
            f"{where}: {end:g} s is beyond the end of {entry.source}, which lasts {seconds:.2f} s; "
            "correct the times, which are in seconds"
        )


def where_of(entry: Entry) -> str:
    """Returns the manifest and line of an entry, or its path."""
    if entry.manifest is None:
        return entry.path
    return f"{entry.manifest}:{entry.line}" if entry.line else f"{entry.manifest}: {entry.source}"


def wave_of(entry: Entry) -> np.ndarray:
    """Returns the samples (S,) float32 at 16 kHz of an entry. Raises UserError if it cannot be used."""
    try:
        return recording.wave_of(entry)
    except Rejected as error:
        where = f"{where_of(entry)}: " if entry.manifest else ""
        name = entry.path if entry.manifest else entry.source
        raise UserError(f"{where}{name}: {error.detail} ({error.reason}); fix it or leave it out") from error


def class_name(labels: Mapping[str, Any], name: str, where: str) -> str:
    """Returns a label that names a class: text that is not blank, or an integer. Raises UserError for anything else."""
    value = str(checked.field(labels, name, (str, int), where))
    if not value.strip():
        raise UserError(f"{where}: the field {name} is empty; name a class, or remove the row")
    return value


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields (number, line) for every line of a UTF-8 text that is not blank, without a byte order mark.

    Raises UserError, naming line and byte, for another encoding.
    """
    for number, line in lines(path):
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError as error:
            byte = f"byte 0x{line[error.start]:02x} in column {error.start + 1}"
            raise UserError(f"{path}:{number}: {byte} is not UTF-8; save the file as UTF-8") from error


def check_seen(splits: Mapping[str, list[Utterance]], field: str, labels: Callable[[Any], Iterable[str]]) -> None:
    """Raises UserError for the first label that is not in the training split. labels: returns those of a target."""
    seen = {label for utterance in splits["train"] for label in labels(utterance.target)}
    for split, utterances in splits.items():
        for utterance in utterances:
            for label in labels(utterance.target):
                if label not in seen:
                    where = f"{where_of(utterance.entry)}: {field}"
                    raise UserError(f"{where}: the {split} split has {label}, which is not in the train split")
