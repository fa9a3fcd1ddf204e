"""Speech Commands version 1 (Warden 2018), 12 classes: ROOT/speech_commands_v0.01/WORD/*.wav with validation_list.txt
and testing_list.txt, and ROOT/speech_commands_test_set_v0.01/CLASS/*.wav.

As in SUPERB, train and valid are the first folder without the clips of testing_list.txt, and test is the second. The
class silence consists of all seconds of the background noises, cut into OUT/silence; every tenth is in valid.
"""

import io
from pathlib import Path

import soundfile

from jepa_speech.errors import UserError
from jepa_speech.ownership import write_once
from jepa_speech.probing.corpora.listing import Rows, by_split, files, lines

TASKS = ("keywords",)
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
NOISES = "_background_noise_"


def manifests(root: Path, out: Path) -> dict[str, Rows]:
    folder, tested = root / "speech_commands_v0.01", root / "speech_commands_test_set_v0.01"
    valid, left_out = (set(lines(folder / name)) for name in ("validation_list.txt", "testing_list.txt"))
    rows: dict[str, Rows] = {"train": [], "valid": [], "test": []}
    for clip in files(folder, "[!_]*/*.wav"):
        name, word = clip.relative_to(folder).as_posix(), clip.parent.name
        if name not in left_out:
            label = word if word in WORDS else "_unknown_"
            rows["valid" if name in valid else "train"].append({"audio_path": clip, "label": label})
    for number, clip in enumerate(silence(folder / NOISES, out / "silence")):
        rows["train" if number % 10 else "valid"].append({"audio_path": clip, "label": "_silence_"})
    rows["test"] = [{"audio_path": clip, "label": clip.parent.name} for clip in files(tested, "*/*.wav")]
    return by_split(rows)


def silence(noises: Path, out: Path) -> list[Path]:
    """Writes every whole second of the noises to a file; returns the files."""
    clips = []
    for path in files(noises, "*.wav"):
        try:
            with path.open("rb") as file:  # soundfile cannot open names that are not UTF-8
                wave, rate = soundfile.read(file, dtype="int16")
        except soundfile.LibsndfileError as error:
            raise UserError(f"{path}: cannot be read as audio ({error.error_string})") from error
        for second in range(len(wave) // rate):
            clips.append(out / f"{path.stem}_{second:03}.wav")
            encoded = io.BytesIO()
            soundfile.write(encoded, wave[second * rate : (second + 1) * rate], rate, format="WAV")
            write_once(clips[-1], encoded.getvalue())
    if not clips:
        raise UserError(f"{noises}: no background noises (*.wav) found, from which silence is made")
    return clips
