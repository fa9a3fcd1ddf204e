"""Task `asv`: speaker verification by the cosine of mean features, scored by the equal error rate.

Trials are read from DIR/asv.{valid,test}.trials.txt (VoxCeleb's format: 1 or 0, and two audio_path). Without such a
file they are made from the manifests: all pairs of one speaker, and as many pairs of two speakers, drawn with a fixed
seed, so that every system and machine has the same trials.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.probing import verification as KIND
from jepa_speech.probing.dataset import Utterance, class_name, read_split, text_lines
from jepa_speech.probing.linear import RECIPE
from jepa_speech.probing.splits import SPLITS

__all__ = ["KIND", "RECIPE", "make_trials", "read", "sequence"]

Trials = list[tuple[bool, str, str]]  # same speaker?, key, key


def read(folder: Path, root: str | Path | None = None) -> dict[str, list[Utterance]]:
    """Returns the splits. A target has the trials whose first recording is the utterance: ((other key, same), ...)."""
    splits = {split: read_split(folder, split, speaker_of, root) for split in SPLITS}
    for split in SPLITS[1:]:
        path, utterances = folder / f"asv.{split}.trials.txt", splits[split]
        trials = read_trials(path, {u.key for u in utterances}) if path.is_file() else make_trials(utterances)
        if len({same for same, _, _ in trials}) < 2:
            raise UserError(
                f"{folder}: asv: the {split} split needs trials of the same speaker and of different speakers: use at "
                "least two speakers, one of them with two recordings"
            )
        starting: dict[str, list[tuple[str, bool]]] = {}
        for same, first, second in trials:
            starting.setdefault(first, []).append((second, same))
        splits[split] = [replace(u, target=tuple(starting.get(u.key, ()))) for u in utterances]
    return splits


def speaker_of(labels: Mapping[str, Any], where: str) -> str:
    return class_name(labels, "speaker", where)


def make_trials(utterances: list[Utterance]) -> Trials:
    """Returns all pairs of one speaker, then as many pairs of two speakers (all, if there are fewer)."""
    speakers = np.array([u.speaker for u in utterances])
    first, second = np.triu_indices(len(utterances), 1)
    same = np.flatnonzero(speakers[first] == speakers[second])
    different = np.flatnonzero(speakers[first] != speakers[second])
    if len(different) > len(same):
        different = np.sort(np.random.default_rng(0).choice(different, len(same), replace=False))
    return [
        (label, utterances[first[i]].key, utterances[second[i]].key)
        for label, pairs in ((True, same), (False, different))
        for i in pairs
    ]


def read_trials(path: Path, known: set[str]) -> Trials:
    """Reads trials. Raises UserError for a malformed line, and for a recording that is not in the manifest."""
    trials = []
    for number, line in text_lines(path):
        label, *keys = line.split()
        if label not in ("0", "1") or len(keys) != 2:
            raise UserError(f"{path}:{number}: '1 audio_path audio_path' or '0 ...' was expected, not {line!r}")
        for key in keys:
            if key not in known:
                raise UserError(f"{path}:{number}: {key} is not in the manifest")
        trials.append((label == "1", keys[0], keys[1]))
    return trials


def sequence(utterance: Utterance, layers: np.ndarray) -> np.ndarray:
    """Returns the mean over time (L, 1, D) of layers (L, T, D)."""
    return layers.mean(1, keepdims=True)
