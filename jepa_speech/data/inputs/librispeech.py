"""LibriSpeech's transcripts: SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt, one `ID TEXT` line per recording."""

from collections.abc import Collection
from pathlib import Path

from jepa_speech.data.inputs.lines import decoded, lines


def transcripts(folder: Path, names: Collection[str]) -> dict[str, dict[str, str]]:
    """The labels (text, speaker, chapter) of the recordings in a chapter's folder, by name without suffix.

    Empty if the folder holds no such file of transcripts.
    """
    speaker, chapter = folder.parent.name, folder.name
    if (name := f"{speaker}-{chapter}.trans.txt") not in names:
        return {}
    recordings = {Path(name).stem for name in names}
    found = {}
    for _, line in lines(folder / name):
        recording, _, text = decoded(line).partition(" ")
        if recording in recordings:
            found[recording] = {"text": text.strip(), "speaker": speaker, "chapter": chapter}
    return found
