"""Speaks sentences with eSpeak NG and says when each phone was spoken. A script, not a module of the package.

    python espeak_voices.py JOBS.jsonl OUT

eSpeak NG is GPL-3.0, so nothing imports this file (and this file imports nothing of the package):
`jepa-speech demo` runs it by path as a process of its own, and the two exchange files only. The library is
looked for on the system first, then in the folder of an installed `espeakng-loader`.

A line of JOBS.jsonl is an utterance: {"id", "text", "voice", "pitch", "rate", "snr_db"}. `voice` is an eSpeak
voice and variant ("en-us+f2"), `pitch` goes from 0 to 99, `rate` is in words per minute, and `snr_db` sets a
faint noise floor, so that a pause is quiet rather than digital zero. Written are OUT/<id>.flac (mono, 16 kHz)
and, last, OUT/phones.jsonl: {"id", "duration", "phones": [[label, start_s, end_s], ...]} with eSpeak's own
labels ("_" is a pause). For eSpeak, a stop begins at its burst: the closure before it belongs to the
phone before.
"""

import ctypes
import ctypes.util
import importlib.util
import json
import shutil
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

SAMPLE_RATE = 16000
QUIET = (0.15, 0.35)  # s, range of the pause before and after an utterance

# From speak_lib.h
SYNCHRONOUS = 2
WITH_PHONEME_EVENTS, DONT_EXIT = 1 << 0, 1 << 15
CHARS_UTF8, POS_CHARACTER = 1, 1
RATE, PITCH = 1, 3
LIST_TERMINATED, PHONEME = 0, 7


class Identity(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),  # samples since the beginning of the utterance
        ("user_data", ctypes.c_void_p),
        ("id", Identity),
    )


Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))


def candidates() -> list[tuple[str, str | None]]:
    """(library, folder of its data) in the order to try; no folder: where the library itself looks."""
    found: list[tuple[str, str | None]] = []
    if program := shutil.which("espeak-ng"):
        lib = Path(program).resolve().parents[1] / "lib"
        found += [(str(path), None) for path in sorted(lib.glob("libespeak-ng.*"))]
    found += [(name, None) for name in (ctypes.util.find_library("espeak-ng"), "libespeak-ng.so.1") if name]
    loader = importlib.util.find_spec("espeakng_loader")  # finds its folder without importing it
    for folder in (loader.submodule_search_locations or []) if loader else []:
        libraries = sorted(Path(folder).glob("*espeak-ng.*"), key=lambda path: len(path.name))
        found += [(str(path), folder) for path in libraries if path.is_file()]
    return found


class Speaker:
    """The one eSpeak NG of this process."""

    def __init__(self) -> None:
        self.pieces: list[np.ndarray] = []
        self.marks: list[tuple[str, int]] = []
        self.library, self.sample_rate = self._load()
        if hasattr(self.library, "espeak_ng_SetRandSeed"):  # from 1.52 on: breathy voices speak the same each run
            self.library.espeak_ng_SetRandSeed(ctypes.c_long(0))
        self.callback = Callback(self._collect)  # kept alive: the library holds a bare pointer to it
        self.library.espeak_SetSynthCallback(self.callback)

    @staticmethod
    def _load() -> tuple[ctypes.CDLL, int]:
        for name, data in candidates():
            try:
                library = ctypes.CDLL(name)
            except OSError:
                continue
            options = WITH_PHONEME_EVENTS | DONT_EXIT
            rate = library.espeak_Initialize(SYNCHRONOUS, 0, data.encode() if data else None, options)
            if rate > 0:
                return library, rate
        sys.exit("no eSpeak NG here: apt or brew install espeak-ng, or pip install espeakng-loader")

    def _collect(self, wave: Any, samples: int, events: Any) -> int:
        if wave and samples > 0:
            self.pieces.append(np.ctypeslib.as_array(wave, (samples,)).astype(np.float32) / 32768)
        i = 0
        while events[i].type != LIST_TERMINATED:
            if events[i].type == PHONEME:
                self.marks.append((events[i].id.string.decode("utf-8", "replace"), events[i].sample))
            i += 1
        return 0

    def say(self, text: str, voice: str, pitch: int, rate: int) -> tuple[np.ndarray, list[tuple[str, float]]]:
        """The wave at 16 kHz (S,), and the label and time in seconds at which each phone begins."""
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            sys.exit(f"this eSpeak NG has no voice {voice!r}")
        self.library.espeak_SetParameter(PITCH, pitch, 0)
        self.library.espeak_SetParameter(RATE, rate, 0)
        self.pieces, self.marks = [], []
        encoded = text.encode()
        size = ctypes.c_size_t(len(encoded) + 1)
        self.library.espeak_Synth(encoded, size, 0, POS_CHARACTER, 0, CHARS_UTF8, None, None)
        self.library.espeak_Synchronize()
        wave = soxr.resample(np.concatenate(self.pieces), self.sample_rate, SAMPLE_RATE)
        return wave, [(label, sample / self.sample_rate) for label, sample in self.marks]


def in_a_room(wave: np.ndarray, snr_db: float, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """The wave with a noise floor, and quiet before and after it; and how much quiet is before it, in s."""
    before, after = (rng.uniform(*QUIET, 2) * SAMPLE_RATE).astype(int)
    noise_rms = np.sqrt(np.mean(wave**2)) * 10 ** (-snr_db / 20)
    wave = np.pad(0.8 * wave, (before, after))
    return wave + noise_rms * rng.standard_normal(len(wave)), before / SAMPLE_RATE


def main(jobs: str, out: str) -> None:
    speaker, rng = Speaker(), np.random.default_rng(0)
    Path(out).mkdir(parents=True, exist_ok=True)
    rows = []
    for line in Path(jobs).read_text(encoding="utf-8").splitlines():
        job = json.loads(line)
        wave, marks = speaker.say(job["text"], job["voice"], job["pitch"], job["rate"])
        wave, offset = in_a_room(wave, job["snr_db"], rng)
        soundfile.write(f"{out}/{job['id']}.flac", np.clip(wave, -1, 1), SAMPLE_RATE, subtype="PCM_16")
        duration = len(wave) / SAMPLE_RATE
        marks = [("_", 0.0), *((label, time + offset) for label, time in marks), ("", duration)]
        phones: list[list[Any]] = [
            [label, round(start, 4), round(end, 4)] for (label, start), (_, end) in pairwise(marks)
        ]
        rows.append({"id": job["id"], "duration": duration, "phones": [p for p in phones if p[2] > p[1]]})
        print(json.dumps({"spoken": len(rows)}), flush=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    Path(f"{out}/phones.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
