"""One recording: decoded, standardised and encoded, or refused with a short stable reason.

The standardised waveform of the house: mono (mean of the channels), 16 kHz, mean removed, scaled down if its
peak exceeds 1, quantised to 16 bits. Both codecs hold the same samples.
"""

import io
import math
import os
import stat
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from jepa_speech.features.grid import SAMPLE_RATE, WINDOW

CODECS = ("flac", "pcm16")
MAX_SECONDS = 2 * 3600.0  # a recording is held whole in memory: 230 MB an hour, and as much again to encode it
RATES = (1_000, 1_000_000)  # Hz; a header outside this is broken, whatever its samples are
BLOCK = 1 << 18  # samples of all channels decoded at a time
FULL_SCALE = 32_768
UNKNOWN_FRAMES = 1 << 62  # libsndfile's count for a stream that does not say how long it is
STREAM_BYTES = 0x7FFF_0000  # a WAV written to a pipe claims 2 or 4 GB, for want of knowing


class Rejected(Exception):
    """A recording that cannot be used. `reason` is a short stable code, `detail` one line for people."""

    def __init__(self, reason: str, detail: str):
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def load(path: str | Path) -> np.ndarray:
    """The standardised waveform of a file, int16 (S,) at 16 kHz.

    Raises Rejected: missing, not_a_file, unreadable, truncated, empty, bad_rate, not_finite, too_short, too_long.
    """
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise Rejected("not_a_file", "a folder or a device, not a file")
        with Path(path).open("rb", buffering=0) as file:
            return standardise(_decode(file))
    except FileNotFoundError as error:
        raise Rejected("missing", "no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise Rejected("unreadable", str(error)) from error


def standardise(wave: np.ndarray) -> np.ndarray:
    """(S,) float32 at 16 kHz → (S,) int16: mean removed, peak at most 1. Changes `wave`."""
    wave -= np.float32(wave.mean(dtype=np.float64))
    peak = max(float(wave.max()), -float(wave.min()))
    wave *= np.float32(FULL_SCALE / max(1.0, peak))
    np.rint(wave, out=wave)
    return np.clip(wave, -FULL_SCALE, FULL_SCALE - 1, out=wave).astype("<i2")


def level(wave: np.ndarray) -> float:
    """RMS of an int16 wave on the scale of [-1, 1]. Digital silence has level 1 by definition: nothing divides by 0."""
    squares = sum(float(np.square(wave[at : at + BLOCK], dtype=np.float64).sum()) for at in range(0, len(wave), BLOCK))
    return math.sqrt(squares / len(wave)) / FULL_SCALE if squares else 1.0


def encode(wave: np.ndarray, codec: str) -> bytes:
    """An int16 wave as one record of a store."""
    if codec == "pcm16":
        return wave.astype("<i2", copy=False).tobytes()
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def crop(record: bytes, codec: str, start: int, samples: int) -> np.ndarray:
    """`samples` samples from `start` on, float32 in [-1, 1]; only these are decoded."""
    if codec == "pcm16":
        return np.frombuffer(record, "<i2", samples, 2 * start).astype(np.float32) / FULL_SCALE
    with soundfile.SoundFile(io.BytesIO(record)) as file:
        file.seek(start)
        return file.read(samples, dtype="float32")


def _decode(file: BinaryIO) -> np.ndarray:
    """Mono float32 at 16 kHz (S,), decoded by blocks so that only the result is ever whole in memory."""
    try:
        # By descriptor: libsndfile then goes by content alone, and any file name will do.
        with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            if lacking := _lacking_bytes(file.fileno()):
                raise Rejected("truncated", f"{lacking} bytes of audio that its WAV header promises are not there")
            pieces = _mono_16k(sound)
    except soundfile.LibsndfileError as error:
        raise Rejected("unreadable", f"{error.error_string} (is it whole, and wav, flac, ogg, opus or mp3?)") from error
    wave = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    if len(wave) < WINDOW:
        raise Rejected("too_short", f"{len(wave)} samples at 16 kHz; one frame needs {WINDOW}")
    return wave


def _mono_16k(sound: soundfile.SoundFile) -> list[np.ndarray]:
    rate, whole = sound.samplerate, sound.frames if sound.frames < UNKNOWN_FRAMES else None
    if not RATES[0] <= rate <= RATES[1]:
        raise Rejected("bad_rate", f"its header says {rate} Hz")
    limit = MAX_SECONDS * rate
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32") if rate != SAMPLE_RATE else None
    pieces, frames = [], 0
    # Estimated lengths (mp3) may be off, so the limit is held on what is read as well as on what is promised.
    while max(frames, whole or 0) <= limit:
        block = sound.read(BLOCK // sound.channels, dtype="float32", always_2d=True)  # (S, channels)
        frames += len(block)
        if not np.isfinite(block).all():
            raise Rejected("not_finite", f"NaN or infinite samples before {frames / rate:.2f} s")
        mono = block.mean(axis=1)  # (S,)
        pieces.append(resampler.resample_chunk(mono, last=not len(block)) if resampler else mono)
        if not len(block):
            break
    else:
        raise Rejected("too_long", f"over {MAX_SECONDS / 3600:g} h; split it first")
    if not frames:
        raise Rejected("empty", "a header without samples")
    if whole is not None and sound.format == "FLAC" and frames < whole:
        raise Rejected("truncated", f"{frames} samples of the {whole} that its header promises")
    return pieces


def _lacking_bytes(file: int) -> int:
    """Bytes that a WAV's data chunk promises beyond the end of the file; libsndfile would pass them over in silence.

    0 for other formats and for sizes that a pipe left unknown.
    """
    size = os.fstat(file).st_size
    head = os.pread(file, 12, 0)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        return 0
    at, long_size = 12, None
    while True:
        chunk = os.pread(file, 24, at)
        if len(chunk) < 8:
            return 0  # no data chunk at all: libsndfile refuses that itself
        name, length = struct.unpack("<4sI", chunk[:8])
        if name == b"ds64" and len(chunk) == 24:
            long_size = struct.unpack("<Q", chunk[16:])[0]  # RF64: sizes beyond 4 GB stand here
        if name == b"data":
            if length == 0xFFFF_FFFF and long_size is not None:
                length = long_size
            return max(0, at + 8 + length - size) if length < STREAM_BYTES or long_size is not None else 0
        at += 8 + length + length % 2
