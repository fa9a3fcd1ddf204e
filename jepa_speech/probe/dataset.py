"""The labelled recordings a probe reads: DIR/{train,valid,test}.manifest.jsonl, and phones.jsonl beside them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jepa_speech.errors import UserError
from jepa_speech.files import read_jsonl

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Utterance:
    """One labelled recording. `key` (the manifest's audio_path) names it in results, so that systems pair up."""

    key: str
    path: Path
    target: Any
    speaker: str = ""  # '' where the manifest does not say


def read_manifest(path: Path, field: str, *more: str) -> list[Utterance]:
    """The utterances of a manifest, with the value of `field` as target. audio_path is relative to the file.

    Raises UserError for a row without `field` or one of `more`, and for an empty manifest.
    """
    utterances = []
    for number, row in enumerate(read_jsonl(path), 1):
        for name in ("audio_path", field, *more):
            if name not in row:
                raise UserError(f"{path}:{number}: the field '{name}' is missing")
        speaker = str(row.get("speaker", ""))
        utterances.append(Utterance(row["audio_path"], path.parent / row["audio_path"], row[field], speaker))
    if not utterances:
        raise UserError(f"{path}: the split is empty")
    return utterances


def check_seen(
    splits: Mapping[str, list[Utterance]], where: Callable[[str, int], str], labels: Callable[[Any], Iterable[str]]
) -> None:
    """Raises UserError for the first utterance with a label that training never shows.

    `labels` gives those of a target, `where` names file and field of a split and a line.
    """
    seen = {label for utterance in splits["train"] for label in labels(utterance.target)}
    for split, utterances in splits.items():
        for number, utterance in enumerate(utterances, 1):
            for label in labels(utterance.target):
                if label not in seen:
                    raise UserError(f"{where(split, number)}: the {split} split has {label}, which train never shows")


def read_phones(folder: Path) -> dict[str, list[tuple[str, float, float]]]:
    """audio_path -> [(label, start in seconds, end in seconds), ...] of FOLDER/phones.jsonl."""
    path = folder / "phones.jsonl"
    phones = {}
    for number, row in enumerate(read_jsonl(path), 1):
        for name in ("audio_path", "phones"):
            if name not in row:
                raise UserError(f"{path}:{number}: the field '{name}' is missing")
        phones[row["audio_path"]] = [(label, float(start), float(end)) for label, start, end in row["phones"]]
    return phones


def with_phones(utterances: Iterable[Utterance], folder: Path) -> list[Utterance]:
    """The same utterances with their phones as target; each must stand in FOLDER/phones.jsonl."""
    phones, utterances = read_phones(folder), list(utterances)
    missing = [u.key for u in utterances if u.key not in phones]
    if missing:
        raise UserError(
            f"{folder / 'phones.jsonl'}: no phones for {missing[0]}"
            + (f" and {len(missing) - 1} other recordings" if missing[1:] else "")
            + "; align them or leave them out of the manifests"
        )
    return [replace(u, target=phones[u.key]) for u in utterances]
