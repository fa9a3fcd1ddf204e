"""Decodes a recording to mono at 16 kHz in blocks, and compares the samples with what its container promises."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import soundfile
import soxr

from jepa_speech.features.grid import SAMPLE_RATE, WINDOW
from jepa_speech.ingest.audio_source import AudioSource, Rejected, Window, opened, stamp_of
from jepa_speech.ingest.containers import check
from jepa_speech.ingest.containers.foreign import named
from jepa_speech.ingest.containers.promise import Promise
from jepa_speech.ingest.reader import Reader, reader_of

MAX_SECONDS = 2 * 3600.0  # a recording is in memory as a whole: 230 MB per hour, and as much again to encode it
RATES = (1_000, 1_000_000)  # Hz; a header with another rate is damaged
BLOCK = 1 << 18  # samples of all channels decoded at a time
LOUDEST = 1e30  # times full scale; larger float32 samples may overflow in sums (mean of channels, resampling)
UNKNOWN_FRAMES = 1 << 62  # libsndfile gives this number for a stream of unknown length
END_SLACK = 0.01  # s: a segment that ends this close to the end of its file is read to the end; its time was rounded
DURATION_TOLERANCE = (0.1, 0.02)  # a manifest's duration may be off by 0.1 s or 2%, whichever is more


def decode(place: AudioSource) -> tuple[np.ndarray, int]:
    """Returns mono float32 at 16 kHz (S,), and the sampling rate of the file (Hz).

    Decodes in blocks, so that only the result is in memory as a whole. Raises Rejected with the reasons of
    docs/data.md; OSError and ValueError if the system cannot read the file.
    """
    if place.is_segment and (error := _error_of_whole(_whole(place), True)):
        raise Rejected(*error.args)
    with _sound(place) as (sound, promise):
        if place.is_segment:
            first, count = _stretch(place, sound)
            blocks = _limited(sound.segment(first, count, BLOCK // sound.channels), sound)
        else:
            _within_limits(sound.frames / sound.samplerate if sound.frames < UNKNOWN_FRAMES else 0)
            blocks = _kept(_limited(_blocks(sound, promise), sound), place, sound, promise)
        rate = sound.samplerate
        wave = _mono_16k(blocks, rate, _channel(place, sound))
    if len(wave) < WINDOW:
        raise _too_short(len(wave))
    return wave, rate


def probe(place: AudioSource) -> float | None:
    """Returns the duration of a recording (s) from its headers, without decoding; None if they do not give it.

    Raises the errors of `decode` that can be found without decoding.
    """
    if place.is_segment and (error := _error_of_whole(_whole(place), False)):
        raise Rejected(*error.args)
    with _sound(place) as (sound, _):
        _channel(place, sound)
        if sound.frames >= UNKNOWN_FRAMES and not place.is_segment:
            return None
        if place.is_segment:
            frames = min(_stretch(place, sound)[1], sound.frames)
        else:
            frames = sound.frames
            _compare_frames(frames, place, sound)
        if not frames:
            raise Rejected("empty", "a header without samples")
        seconds = frames / sound.samplerate
        _within_limits(seconds)
        if seconds * SAMPLE_RATE < WINDOW - 1:  # resampling may round up by a sample
            raise _too_short(round(seconds * SAMPLE_RATE))
        return seconds


def rate_of(place: AudioSource) -> int:
    """Returns the rate (Hz) in the header of a recording's file, without checking the container.

    Raises Rejected, OSError and ValueError like `decode`.
    """
    with _contents(place) as file, Reader(file) as sound:
        return sound.samplerate


def slack(seconds: float) -> float:
    """Returns the largest allowed difference (s) between a manifest's duration and the measured one."""
    return max(DURATION_TOLERANCE[0], DURATION_TOLERANCE[1] * seconds)


@contextmanager
def _sound(place: AudioSource) -> Iterator[tuple[Reader, Promise]]:
    with _contents(place) as file:
        promise = Promise() if place.is_segment else check(file)
        with reader_of(_whole(place), file, place.start) if place.is_segment else Reader(file) as sound:
            if not RATES[0] <= sound.samplerate <= RATES[1]:
                raise Rejected("bad_rate", f"its header says {sound.samplerate} Hz")
            yield sound, promise


@contextmanager
def _contents(place: AudioSource) -> Iterator[Window]:
    """Opens the bytes of a recording; turns errors of libsndfile into Rejected (unreadable)."""
    head = b""
    try:
        with opened(place) as file:
            head = file.at(0, 1024)
            yield file
    except soundfile.LibsndfileError as error:
        detail = named(head) or f"{error.error_string} (is it whole, and of a type that docs/manifests.md lists?)"
        raise Rejected("unreadable", detail) from error


def _whole(place: AudioSource) -> AudioSource:
    """Returns the whole file of a segment, with a stamp, so that a changed file counts as another one."""
    stamp = place.stamp or stamp_of(os.stat(place.path))  # noqa: PTH116
    return AudioSource(path=place.path, stamp=stamp, span=place.span, cell=place.cell)


@lru_cache(maxsize=16)
def _error_of_whole(place: AudioSource, decoded: bool) -> Rejected | None:
    """Returns the error of the whole file of a segment, or None; cached for further segments of the file.

    With `decoded`, FLAC files are decoded, because their MD5 of all samples can only be checked in this way. Other
    formats promise nothing that needs all samples.
    """
    try:
        with _sound(place) as (sound, promise):
            if decoded and promise.md5:
                for _ in _kept(_blocks(sound, promise), place, sound, promise):
                    pass
    except Rejected as error:
        return error
    return None


def _blocks(sound: Reader, promise: Promise) -> Iterator[np.ndarray]:
    """Yields all samples in blocks, float32 (S, channels). Raises Rejected after the last one if the MD5 is wrong."""
    size = BLOCK // sound.channels
    if promise.md5 is None:
        yield from sound.blocks(size)
        return
    # The MD5 is of integers: 16 bits as they are, other widths scaled to 32 bits. Float32 holds both exactly.
    digest, kind = hashlib.md5(usedforsecurity=False), "int16" if promise.bits == 16 else "int32"
    frames = 0
    for block in sound.blocks(size, kind):
        frames += len(block)
        digest.update(block.astype("<i2", copy=False).data if kind == "int16" else _low_bytes(block, promise.bits))
        yield block.astype(np.float32) / np.float32(1 << (15 if kind == "int16" else 31))
    if frames == promise.frames and digest.digest() != promise.md5:  # `_kept` reports another number of samples
        raise Rejected("damaged", "its samples do not match the MD5 in its FLAC header")


def _low_bytes(block: np.ndarray, bits: int) -> bytes:
    """Returns the bytes of the original samples, each of `bits` rounded up to whole bytes, from samples of 32 bits."""
    original = (block >> (32 - bits)).astype("<i4", copy=False)
    return original.view(np.uint8).reshape(-1, 4)[:, : (bits + 7) // 8].tobytes()


def _limited(blocks: Iterable[np.ndarray], sound: Reader) -> Iterator[np.ndarray]:
    """Yields the same blocks. Raises Rejected if samples are not finite, or if there are none or too many."""
    frames = 0
    for block in blocks:
        frames += len(block)
        # An MP3's length in the header may be an estimate, so the decoded length is checked, too.
        _within_limits(frames / sound.samplerate)
        if not (np.abs(block) < LOUDEST).all():  # also false for NaN
            raise Rejected(
                "not_finite", f"NaN, infinite or extremely large samples before {frames / sound.samplerate:.2f} s"
            )
        yield block
    if not frames:
        raise Rejected("empty", "a header without samples")


def _kept(blocks: Iterable[np.ndarray], place: AudioSource, sound: Reader, promise: Promise) -> Iterator[np.ndarray]:
    """Yields the same blocks of a whole file. Raises Rejected after the last one if the number of samples is wrong."""
    frames = 0
    for block in blocks:
        frames += len(block)
        yield block
    promised = promise.frames if promise.seconds is None else round(promise.seconds * sound.samplerate)
    if promised is not None and abs(frames - promised) > (promise.seconds is not None):  # from seconds: 1 off
        reason = "truncated" if frames < promised else "bad_length"
        raise Rejected(reason, f"{frames} samples, but its header promises {promised}")
    _compare_frames(frames, place, sound)


def _compare_frames(frames: int, place: AudioSource, sound: Reader) -> None:
    seconds = frames / sound.samplerate
    if place.frames is not None and abs(place.frames / sound.samplerate - seconds) > slack(seconds):
        raise Rejected("duration_mismatch", f"{frames} samples, but its manifest says {place.frames}")


def _stretch(place: AudioSource, sound: Reader) -> tuple[int, int]:
    """Returns (first sample, number of samples) of a segment, at the file's own rate."""
    first = round(place.start * sound.samplerate)
    left = sound.frames - first
    wanted = left if place.seconds is None else round(place.seconds * sound.samplerate)
    if first < 0 or wanted <= 0 or (wanted - left) / sound.samplerate > slack(wanted / sound.samplerate):
        end = "" if place.seconds is None else f" to {place.start + place.seconds:g} s"
        long = sound.frames / sound.samplerate
        raise Rejected("duration_mismatch", f"the segment from {place.start:g}{end} is not in its file of {long:.2f} s")
    return first, left if abs(wanted - left) <= END_SLACK * sound.samplerate else min(wanted, left)


def _channel(place: AudioSource, sound: Reader) -> int | None:
    if place.channel is not None and not 0 <= place.channel < sound.channels:
        raise Rejected("bad_channel", f"channel {place.channel}, but the file has {sound.channels} (from 0 on)")
    return place.channel


def _mono_16k(blocks: Iterable[np.ndarray], rate: int, channel: int | None) -> np.ndarray:
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32") if rate != SAMPLE_RATE else None
    pieces = []
    for block in blocks:
        mono = block.mean(axis=1) if channel is None else block[:, channel]  # (S,)
        pieces.append(resampler.resample_chunk(mono) if resampler else mono)
    if resampler:
        pieces.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    return np.concatenate(pieces)


def _within_limits(seconds: float) -> None:
    if seconds > MAX_SECONDS:
        raise Rejected("too_long", f"over {MAX_SECONDS / 3600:g} h; split it first")


def _too_short(samples: int) -> Rejected:
    return Rejected("too_short", f"{samples} samples at 16 kHz; one frame needs {WINDOW}")
