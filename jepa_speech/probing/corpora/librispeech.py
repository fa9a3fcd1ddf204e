"""LibriSpeech (Panayotov et al. 2015): ROOT/SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt, and .flac beside it."""

from pathlib import Path

from jepa_speech.probing.corpora.listing import Rows, another_form, by_split, files, numbered_lines

TASKS = ("asr", "asv")
SUBSETS = {"train": "train-clean-100", "valid": "dev-clean", "test": "test-clean"}


def manifests(root: Path, out: Path) -> dict[str, Rows]:
    rows: dict[str, Rows] = {split: [] for split in SUBSETS}
    for split, subset in SUBSETS.items():
        for path in files(root / subset, "*/*/*.trans.txt"):
            for number, line in numbered_lines(path):
                name, *text = line.split(maxsplit=1)
                if not text:
                    raise another_form(path, number, line, "'NAME TEXT'")
                row = {
                    "audio_path": path.parent / f"{name}.flac",
                    "text": text[0].rstrip(),
                    "speaker": name.split("-")[0],
                }
                rows[split].append(row)
    return by_split(rows)
