"""IEMOCAP (Busso et al. 2008): ROOT/Session{1..5}/dialog/EmoEvaluation/*.txt, and Session*/sentences/wav/DIALOG/*.wav.

The classes are SUPERB's four; excited counts as happy. The two speakers of a session are neighbours in order of name,
so the folds of the task `emotion` are the sessions. The task joins the three manifests.
"""

import re
from pathlib import Path

from jepa_speech.errors import UserError
from jepa_speech.probing.corpora.listing import Rows, by_split, files, lines

TASKS = ("emotion",)
SPLITS = {"train": (1, 2, 3), "valid": (4,), "test": (5,)}
EMOTIONS = {"neu": "neutral", "hap": "happy", "exc": "happy", "ang": "angry", "sad": "sad"}
TURN = re.compile(r"\[[\d.]+ - [\d.]+\]\s+(\S+)\s+(\w+)\s")  # [start - end] name emotion [dimensions]


def manifests(root: Path, out: Path) -> dict[str, Rows]:
    return by_split({split: [row for number in SPLITS[split] for row in session(root, number)] for split in SPLITS})


def session(root: Path, number: int) -> Rows:
    folder, rows = root / f"Session{number}", []
    evaluations = files(folder / "dialog" / "EmoEvaluation", "*.txt")
    if not evaluations:
        raise UserError(f"{folder / 'dialog' / 'EmoEvaluation'}: no evaluations (*.txt) found")
    for path in evaluations:
        turns = [turn for line in lines(path) if (turn := TURN.match(line))]
        if not turns:
            raise UserError(f"{path}: no line '[START - END] NAME EMOTION [VALENCE, ACTIVATION, DOMINANCE]'")
        for turn in turns:
            if turn[2] in EMOTIONS:
                name = turn[1]  # Ses01F_impro01_M003: session, speaker with motion capture, dialog, speaker, turn
                dialog, _, spoken = name.rpartition("_")
                clip = folder / "sentences" / "wav" / dialog / f"{name}.wav"
                rows.append({"audio_path": clip, "emotion": EMOTIONS[turn[2]], "speaker": f"{name[:5]}{spoken[:1]}"})
    return rows
