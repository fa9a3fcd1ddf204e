"""Multilingual LibriSpeech: SPLIT/transcripts.txt (`ID<TAB>TEXT`) and SPLIT/audio/SPEAKER/BOOK/ID.flac or .opus.

SPLIT/limited_supervision/{9hr,1hr/N}/handles.txt list the recordings of its 10 hours, 1 hour and 10 minutes.
"""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from jepa_speech.ingest.inputs.line_index import LineIndex
from jepa_speech.ingest.inputs.lines import decoded, lines
from jepa_speech.ingest.inputs.passed_over import PassedOver

TEXTS, AUDIO, LIMITED = "transcripts.txt", "audio", "limited_supervision"


class Mls:
    """The labels of one split at a time. Texts are looked up on disk, with 16 bytes of memory each."""

    def __init__(self, passed: PassedOver) -> None:
        self._passed = passed
        self._split: Path | None = None
        self._texts: LineIndex | None = None
        self._parts: dict[str, str] = {}

    def enter(self, folder: Path, names: Sequence[str]) -> None:
        """Opens the texts of a split if this folder is a split, or if the input is the folder `audio` of a split."""
        if TEXTS in names and (folder / AUDIO).is_dir():
            self._open(folder)
        elif self._split is None and folder.name == AUDIO and (folder.parent / TEXTS).is_file():
            self._open(folder.parent)

    def _open(self, split: Path) -> None:
        self.close()
        self._split, self._texts = split, LineIndex(split / TEXTS)
        self._parts = {
            decoded(line.strip()): path.parent.relative_to(split / LIMITED).as_posix()
            for path in sorted((split / LIMITED).rglob("handles.txt"))
            for _, line in lines(path)
        }

    def labels(self, folder: Path, stems: Collection[str]) -> dict[str, dict[str, str]]:
        """Returns the labels of the recordings of a book; {} for any other folder."""
        speaker, book = folder.parent.name, folder.name
        if self._split is None or self._texts is None or folder.parent.parent != self._split / AUDIO:
            return {}
        found = {}
        for stem in stems:
            if stem.startswith(f"{speaker}_{book}_"):
                text, part = self._texts.text(os.fsencode(stem)), self._parts.get(stem)
                said = {"text": text, "speaker": speaker, "book": book, LIMITED: part}
                found[stem] = {name: value for name, value in said.items() if value is not None}
        return found

    def close(self) -> None:
        """Counts the texts without a recording, and closes the file of texts."""
        if self._texts:
            count, first = self._texts.unused()
            if count:
                self._passed.add("label", TEXTS, f"{first} in {self._texts.path}", count)
            self._texts.close()
        self._split, self._texts, self._parts = None, None, {}
