"""Reads audio files in order, so that blocks and segments have the samples of one read of the whole file.

After each read from a seekable file, soundfile 0.14 seeks to the position that it has already reached. In libsndfile
1.2.2 a seek in a compressed file is not exact. In MP3, a frame may need bits of earlier frames, which a seek discards.
In Opus, the decoder gets too little time to settle. In Vorbis, a seek into the last page, or a short seek after another
one, gives wrong samples. See findings/.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import soundfile

from jepa_speech.ingest.audio_source import AudioSource, Window
from jepa_speech.ingest.containers import complete

# Encodings in which a seek is exact. Some others, such as GSM, cannot seek at all.
EXACT_SEEKS = {
    "PCM_S8",
    "PCM_U8",
    "PCM_16",
    "PCM_24",
    "PCM_32",
    "FLOAT",
    "DOUBLE",
    "ULAW",
    "ALAW",
    "IMA_ADPCM",
    "MS_ADPCM",
}
KEPT = 1 << 23  # most decoded samples of all channels (32 MB) kept for overlapping segments


class Reader(soundfile.SoundFile):
    """An open audio file that never seeks, except to the start of a segment if seeks are exact."""

    def __init__(self, file: Window):
        complete(file)
        file.seek(0)
        super().__init__(file)
        self._window = file
        self._kept: deque[tuple[int, np.ndarray]] = deque()  # (position, samples) of consecutive decoded blocks
        self._position = 0

    def seekable(self) -> bool:
        """Returns False, so that soundfile does not seek after each read."""
        return False

    @property
    def seeks_exactly(self) -> bool:
        return self.subtype in EXACT_SEEKS

    def continues_at(self, start: float) -> bool:
        """Whether samples from `start` (s) on can still be read, because they are kept or not yet decoded."""
        oldest = self._kept[0][0] if self._kept else self._position
        return round(start * self.samplerate) >= oldest

    def follow(self, file: Window) -> None:
        """Reads from `file` from now on; it must be another opening of the same bytes."""
        self._window.follow(file)

    def blocks(self, size: int, kind: str = "float32", count: int | None = None) -> Iterator[np.ndarray]:
        """Yields the next `count` samples (None: all) in blocks (S, channels) of at most `size`. Raises OSError."""
        while count is None or count > 0:
            try:
                block = self.read(size if count is None else min(size, count), dtype=kind, always_2d=True)
            except soundfile.LibsndfileError as error:
                raise (self._window.error or error) from None
            if self._window.error:  # libsndfile may treat it as the end of the file
                raise self._window.error
            if not len(block):
                break
            self._position += len(block)
            count = None if count is None else count - len(block)
            yield block

    def segment(self, first: int, count: int, size: int) -> Iterator[np.ndarray]:
        """Yields `count` samples from `first` on, float32 (S, channels), in blocks of at most `size`.

        If seeks are not exact, all samples before them are decoded, too, unless an earlier segment already did so.
        """
        if self.seeks_exactly:
            self.seek(first)
            yield from self.blocks(size, count=count)
            return
        for at, block in self._from(first, first + count, size):
            part = block[max(first - at, 0) : max(first + count - at, 0)]
            if len(part):
                yield part

    def _from(self, first: int, end: int, size: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yields blocks with their positions: the kept ones that end after `first`, then new ones up to `end`."""
        while self._kept and self._kept[0][0] + len(self._kept[0][1]) <= first:
            self._kept.popleft()
        yield from list(self._kept)
        if self._position >= end:
            return
        for block in self.blocks(size):
            if self._position > first:  # the next segment begins at the same sample or later
                self._kept.append((self._position - len(block), block))
                while sum(one.size for _, one in self._kept) > KEPT:
                    self._kept.popleft()
            yield self._position - len(block), block
            if self._position >= end:
                return


_last = threading.local()  # the reader of the last segment, which the next segment of the file uses


@contextmanager
def reader_of(whole: AudioSource, file: Window, start: float) -> Iterator[Reader]:
    """Opens a reader for the segment of `file` that begins at `start` (s).

    If seeks are not exact, consecutive segments of a file, in order of their starts, share a reader, so that the file
    is decoded once for all of them. `whole` identifies the file by its stamp.
    """
    last: tuple[AudioSource, Reader] | None = getattr(_last, "read", None)
    _last.read = None  # stays None if an error ends this segment
    if last is not None and last[0] == whole and last[1].continues_at(start):
        reader = last[1]
        reader.follow(file)
    else:
        reader = Reader(file)
    yield reader
    if not reader.seeks_exactly:
        _last.read = (whole, reader)
