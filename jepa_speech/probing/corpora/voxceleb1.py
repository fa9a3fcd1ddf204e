"""VoxCeleb1 (Nagrani et al. 2017): ROOT/{dev,test}/wav/SPEAKER/VIDEO/CLIP.wav, iden_split.txt and veri_test.txt.

Identification uses the split of iden_split.txt (1, 2, 3: train, valid, test). Verification uses the trials of
veri_test.txt, whose 40 speakers are in `test`. Layers are weighted and chosen on `dev`; its last 40 speakers in order
of name are valid.
"""

import os
import re
from pathlib import Path

from jepa_speech.errors import UserError
from jepa_speech.probing.corpora.listing import Rows, another_form, by_split, files, numbered_lines

TASKS = ("speaker", "asv")
SPLITS = {"1": "train", "2": "valid", "3": "test"}
VALID_SPEAKERS = 40
CLIP = re.compile(r"[^/]+/[^/]+/[^/]+")


def manifests(root: Path, out: Path) -> dict[str, Rows | list[str]]:
    identified: dict[str, Rows] = {split: [] for split in SPLITS.values()}
    places = {clip.parent.parent.name: clip.parent.parent for clip in files(root, "*/wav/*/*/*.wav")}
    split_file, trial_file, trials = root / "iden_split.txt", root / "veri_test.txt", []
    for number, line in numbered_lines(split_file):
        split, *clips = line.split()
        if split not in SPLITS or len(clips) != 1 or not CLIP.fullmatch(clips[0]):
            raise another_form(split_file, number, line, "'1 (or 2, 3) SPEAKER/VIDEO/CLIP.wav'")
        row = {"audio_path": place(clips[0], places, root), "label": clips[0].split("/")[0]}
        identified[SPLITS[split]].append(row)
    for number, line in numbered_lines(trial_file):
        same, *clips = line.split()
        if same not in ("0", "1") or len(clips) != 2 or not all(map(CLIP.fullmatch, clips)):
            raise another_form(trial_file, number, line, "'1 (or 0) CLIP CLIP', each SPEAKER/VIDEO/CLIP.wav")
        trials.append((same, *clips))
    tested = sorted({clip for _, *clips in trials for clip in clips})
    held_out = {clip.split("/")[0] for clip in tested}
    developed = sorted({row["label"] for rows in identified.values() for row in rows} - held_out)
    valid = set(developed[-VALID_SPEAKERS:])
    rows = {
        "train": [row for row in identified["train"] if row["label"] not in valid | held_out],
        "valid": [row for row in identified["valid"] if row["label"] in valid],
        "test": [{"audio_path": place(clip, places, root), "label": clip.split("/")[0]} for clip in tested],
    }
    verified = {split: [row | {"speaker": row["label"]} for row in part] for split, part in rows.items()}
    relative = {clip: os.path.relpath(place(clip, places, root), out) for clip in tested}
    listed = [f"{label} {relative[first]} {relative[second]}" for label, first, second in trials]
    return by_split(identified, "sid.") | by_split(verified) | {"asv.test.trials.txt": listed}


def place(clip: str, places: dict[str, Path], root: Path) -> Path:
    """Returns the file of SPEAKER/VIDEO/CLIP.wav, in dev or in test."""
    speaker, _, rest = clip.partition("/")
    if speaker not in places:
        raise UserError(f"{root}: the speaker {speaker} is in no */wav folder; unpack both dev and test")
    return places[speaker] / rest
