"""The demo's corpus: sixteen synthetic voices that say composed sentences, laid out as `probe --data` reads it."""

import subprocess
import sys
from itertools import cycle, groupby
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from jepa_speech import ownership
from jepa_speech.errors import UserError
from jepa_speech.files import read_jsonl, write_jsonl

# The files of an unfinished corpus.
NAMES = ("jobs.jsonl", "audio", "audio/*.flac", "audio/phones.jsonl", "phones.jsonl", "*.manifest.jsonl")
SCRIPT = Path(__file__).with_name("espeak_voices.py")

# (eSpeak voice, pitch, words per minute); the splits share no speaker.
VOICES = {
    "train": [
        ("en-us+m1", 42, 165), ("en-us+f1", 55, 150), ("en-us+m3", 35, 145), ("en-us+f4", 60, 170),
        ("en-gb-x-rp+m2", 50, 160), ("en-gb-x-rp+f3", 52, 155), ("en-us+m6", 46, 175),
        ("en-us-nyc+f2", 58, 160), ("en-gb-scotland+m7", 40, 150), ("en-us-nyc+m4", 44, 165),
    ],
    "valid": [("en-us+m7", 48, 160), ("en-gb-x-rp+f1", 56, 165)],
    "test": [
        ("en-us+f3", 57, 155), ("en-gb-x-rp+m1", 45, 170), ("en-us+m4", 38, 150), ("en-us-nyc+f4", 62, 160),
    ],
}  # fmt: skip
UTTERANCES = {"train": 30, "valid": 12, "test": 12}  # by each speaker

WORDS = {
    "A": "small, young, quiet, strange, yellow, hungry, broken, shiny, foreign, careful, huge, purple, lazy, "
    "thirsty, northern, cheap, smooth, joyful, fair, wooden, busy, wide, rough, cold, gentle, brave",
    "N": "dog, teacher, judge, river, garden, boy, mother, thief, child, fox, nurse, picture, machine, bridge, "
    "castle, village, witch, measure, shop, treasure, hour, bird, engine, author, mayor, cousin, sailor, joke, "
    "view, cheese, road",
    "V": "watches, follows, pushes, carries, remembers, chases, avoids, builds, finds, enjoys, throws, washes, "
    "paints, measures, joins, sells, judges, visits, hears, burns, changes",
    "P": "near, under, behind, across, over, without, beyond, through, inside, around",
    "C": "because, while, although, before, since, unless",
    "T": "today, in july, on thursday, before noon, for an hour, every year, at night, in the rain",
}
SHAPES = ["the A N V the N", "a N V the A N T", "the N P the A N V a N", "this A N V that N P the N",
          "the N V a A N C the N V it T"]  # fmt: skip


def sentences(number: int, rng: np.random.Generator) -> list[str]:
    """`number` different sentences, drawn from the shapes and words above."""
    found: dict[str, None] = {}
    while len(found) < number:
        shape = rng.choice(SHAPES).split()
        words = [str(rng.choice(WORDS[w].split(", "))) if w in WORDS else w for w in shape]
        found[" ".join(words)] = None
    return list(found)


def jobs() -> list[dict[str, Any]]:
    """Every utterance of the corpus, by a seeded draw: always the same ones, and no sentence twice."""
    rng = np.random.default_rng(0)
    texts = iter(sentences(sum(UTTERANCES[split] * len(voices) for split, voices in VOICES.items()), rng))
    found = []
    for split, voices in VOICES.items():
        for voice, pitch, rate in voices:
            speaker = "espeak_" + voice.replace("+", "_")
            for n in range(UTTERANCES[split]):
                job = {"id": f"{speaker}_{n:02d}", "text": next(texts), "voice": voice, "split": split}
                found.append(job | {
                    "speaker": speaker,
                    "pitch": pitch + int(rng.integers(-4, 5)),
                    "rate": rate + int(rng.integers(-10, 11)),
                    "snr_db": round(float(rng.uniform(30, 45)), 1),
                })  # fmt: skip
    return found


# eSpeak's allophones, and vowels that differ by accent only, under one label.
PHONES = {
    "@2": "@", "a#": "@", "@L": "l", "I2": "I", "I#": "I", "IR": "I", "i": "i:", "i@3": "i@", "aI2": "aI",
    "aI@": "aI", "aa": "a", "VR": "V", "A@": "A:", "O2": "O:", "o@": "O@", "r-": "r", "t#": "t", ";": "j",
}  # fmt: skip


def plain_phones(phones: list[list[Any]]) -> list[list[Any]]:
    """eSpeak's [label, start, end] without stress marks and allophones; adjoining pauses become one "sil"."""
    plain: list[list[Any]] = []
    for mark, start, end in phones:
        label = mark.lstrip("',%=|")
        label = "sil" if label.startswith("_") or not label else PHONES.get(label, label)
        if plain and plain[-1][0] == label == "sil":
            plain[-1][2] = end
        else:
            plain.append([label, start, end])
    return plain


def speak(work: Path, todo: list[dict[str, Any]], progress: bool) -> dict[str, dict[str, Any]]:
    """Runs the eSpeak script on the jobs; its rows by id. Raises UserError with the script's reason."""
    write_jsonl(work / "jobs.jsonl", todo)
    command = [sys.executable, "-I", str(SCRIPT), str(work / "jobs.jsonl"), str(work / "audio")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as script:
        for _ in tqdm(script.stdout, desc="speak", total=len(todo), unit="utt", disable=not progress):
            pass
        reason = script.stderr.read().strip() if script.stderr else ""
    if script.returncode:
        raise UserError(f"the demo's voices: {(reason.splitlines() or ['eSpeak NG failed'])[-1]}")
    rows = {row["id"]: row for row in read_jsonl(work / "audio" / "phones.jsonl")}
    (work / "audio" / "phones.jsonl").unlink()
    (work / "jobs.jsonl").unlink()
    return rows


def write_corpus(out: str | Path, todo: list[dict[str, Any]] | None = None, progress: bool = False) -> Path:
    """Writes the corpus to `out` (under another name until it is whole) unless it is there; returns `out`.

    Holds {train,valid,test}.manifest.jsonl (no speaker in two of them), phones.jsonl, pretrain.manifest.jsonl
    (the train split) and sid.{train,valid,test}.manifest.jsonl (every speaker in each; label = speaker).
    """
    out = Path(out)
    if out.exists():
        return out
    work = out.with_name(out.name + ".unfinished")
    if not ownership.remove(work, NAMES):
        raise UserError(f"{work}: jepa-speech did not write all of this folder; move it elsewhere")
    ownership.make(work)
    todo = todo or jobs()
    spoken = speak(work, todo, progress)
    rows, phones = [], []
    for job in todo:
        path = f"audio/{job['id']}.flac"
        row = {"audio_path": path, "duration": spoken[job["id"]]["duration"], "split": job["split"]}
        rows.append(row | {"text": job["text"], "speaker": job["speaker"], "label": job["speaker"], "synthetic": True})
        phones.append({"audio_path": path, "split": job["split"], "phones": plain_phones(spoken[job["id"]]["phones"])})
    write_jsonl(work / "phones.jsonl", phones)
    for split in VOICES:
        write_jsonl(work / f"{split}.manifest.jsonl", (row for row in rows if row["split"] == split))
    write_jsonl(work / "pretrain.manifest.jsonl", (row for row in rows if row["split"] == "train"))
    for split, taken in by_turns(rows).items():
        write_jsonl(work / f"sid.{split}.manifest.jsonl", taken)
    work.rename(out)
    return out


def by_turns(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Splits each speaker's utterances in turns: half to train, a sixth to valid, a third to test."""
    turns = ("train", "test", "train", "valid", "train", "test")
    taken: dict[str, list[dict[str, Any]]] = {split: [] for split in VOICES}
    for _, own in groupby(rows, key=lambda row: row["speaker"]):
        for turn, row in zip(cycle(turns), own, strict=False):
            taken[turn].append(row | {"split": turn})
    return taken
