"""Decodes a part of a FLAC record, by dr_flac (package miniaudio) or, where that is not installed, by libsndfile.

Both give the same samples. dr_flac needs 0.55 of libsndfile's processor time (benchmarks/NOTES.md). It reads the record
in place and does not hold Python's lock while it decodes, so threads do not wait for each other.
"""

import io

import numpy as np
import soundfile

try:
    from miniaudio import ffi, lib
except ImportError:  # there are no wheels for some processors (setup.py)
    lib = None


def crop(record: bytes, start: int, samples: int) -> np.ndarray:
    """Returns up to `samples` samples of a mono 16-bit FLAC stream from `start` on, float32 in [-1, 1].

    Raises RuntimeError or ValueError if the bytes are not such a stream, or end before `start`.
    """
    if lib is None:
        with soundfile.SoundFile(io.BytesIO(record)) as file:
            file.seek(start)
            return file.read(samples, dtype="float32")
    wave = np.empty(samples, np.float32)
    data = ffi.from_buffer(record)
    stream = lib.ma_dr_flac_open_memory(data, len(data), ffi.NULL)
    if not stream:
        raise ValueError("not FLAC")
    try:
        if stream.channels != 1 or stream.bitsPerSample != 16:
            raise ValueError(f"{stream.channels} channels of {stream.bitsPerSample} bits, not one of 16")
        if start and not lib.ma_dr_flac_seek_to_pcm_frame(stream, start):
            raise ValueError(f"no sample {start}")
        read = lib.ma_dr_flac_read_pcm_frames_f32(stream, samples, ffi.from_buffer("float[]", wave))
    finally:
        lib.ma_dr_flac_close(stream)
    return wave[:read]
