"""Labels from the published folder layout of a corpus.

LibriSpeech      SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt          text, speaker, chapter (librispeech.py)
MLS              SPLIT/audio/SPEAKER/BOOK/SPEAKER_BOOK_N.flac       text, speaker, book, limited_supervision (mls.py)
Speech Commands  WORD/SPEAKER_nohash_N.wav                          label, speaker
VoxCeleb         idNNNNN/VIDEO/CLIP.wav                             speaker, video
"""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from jepa_speech.ingest.inputs.librispeech import transcripts
from jepa_speech.ingest.inputs.mls import Mls
from jepa_speech.ingest.inputs.passed_over import PassedOver

Labels = dict[str, str]
SAID_BY = re.compile(r"(?:.*_)?([^_]+)_nohash_\d+")  # of Speech Commands
LISTS = ("validation_list.txt", "testing_list.txt")  # beside the folders of words of Speech Commands
TEST_SET = "speech_commands_test_set"  # the test set of Speech Commands has no such lists
NOISES = "_background_noise_"
VOXCELEB_SPEAKER = re.compile(r"id\d{5}")


class Trees:
    """Finds the labels of each folder of a tree. `close` counts the texts of MLS without a recording."""

    def __init__(self, passed: PassedOver) -> None:
        self._passed, self._mls = passed, Mls(passed)

    def labels(self, folder: Path, names: Sequence[str], stems: Collection[str]) -> dict[str, Labels]:
        """Returns the labels of a folder's recordings, by name without suffix. Call it for parents before children.

        names: all files of the folder. stems: the names of its recordings without their suffixes.
        """
        self._mls.enter(folder, names)
        found = self._mls.labels(folder, stems) or transcripts(folder, names, stems, self._passed)
        if not found and stems:
            found = _of_words(folder, stems) or _of_voxceleb(folder, stems)
        return found

    def close(self) -> None:
        self._mls.close()


def _of_words(folder: Path, stems: Collection[str]) -> dict[str, Labels]:
    if folder.name == NOISES:
        return {}
    above = folder.parent
    is_word = above.name.startswith(TEST_SET) or any((above / name).is_file() for name in LISTS)
    found = {}
    for stem in stems:
        said = SAID_BY.fullmatch(stem)
        if said or is_word:
            found[stem] = {"label": folder.name} | ({"speaker": said[1]} if said else {})
    return found


def _of_voxceleb(folder: Path, stems: Collection[str]) -> dict[str, Labels]:
    if not VOXCELEB_SPEAKER.fullmatch(folder.parent.name):
        return {}
    return {stem: {"speaker": folder.parent.name, "video": folder.name} for stem in stems}
