"""LibriSpeech's transcripts: SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt, one `ID TEXT` line per recording."""

from collections.abc import Collection, Iterable
from pathlib import Path

from jepa_speech.ingest.inputs.lines import lines, text_of
from jepa_speech.ingest.inputs.passed_over import PassedOver


def transcripts(
    folder: Path, names: Iterable[str], recordings: Collection[str], passed: PassedOver
) -> dict[str, dict[str, str]]:
    """Returns the labels (text, speaker, chapter) of the recordings in a chapter's folder, by name without suffix.

    The result is empty if none of the folder's files (`names`) holds transcripts. `passed` counts the lines without a
    recording, and all lines of files whose name does not match the folder.
    """
    speaker, chapter = folder.parent.name, folder.name
    found = {}
    for name in names:
        if not name.endswith(".trans.txt") or name.startswith("."):
            continue
        is_ours = name == f"{speaker}-{chapter}.trans.txt"
        for number, line in lines(folder / name):
            where = f"{folder / name}:{number}"
            recording, _, said = text_of(line, where).partition(" ") if is_ours else ("", "", "")
            if recording in recordings and recording not in found:
                found[recording] = {"text": said.strip(), "speaker": speaker, "chapter": chapter}
            else:
                passed.add("label", name, where)
    return found
