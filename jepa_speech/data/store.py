"""The store: recordings ready to crop. Written by `prepare`, read by everything else.

STORE/store.json       written last: its presence means that the store is whole
STORE/shards/          ArrayRecord, one encoded recording per record
STORE/index/           shard.npy uint32, position.npy uint32, samples.npy int64, level.npy float32; all (N,)
STORE/records.jsonl    id, source, duration (s) and the labels found, one line per record
STORE/rejects.jsonl    what could not be used, and why
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from jepa_speech.data import audio
from jepa_speech.errors import UserError
from jepa_speech.files import read_json, read_jsonl

FORMAT = 1
INDEX = {"shard": np.uint32, "position": np.uint32, "samples": np.int64, "level": np.float32}
OPEN_SHARDS = 128  # shards kept open at a time, well below the usual limit of 1,024 files; opening takes 0.1 ms


def shard_path(store: Path, shard: int) -> Path:
    return store / "shards" / f"part-{shard:05d}.array_record"


class Store:
    """A whole store, open for reading. Threads may share it; pickled, it opens its files anew.

    Raises UserError if it is missing, unfinished or broken.

    Attributes: `path`; `samples` (N,) int64; `level` (N,) float32, RMS of each whole recording, 1 for digital
    silence; `hours`; `codec`; `fingerprint`, a hash of the samples in their order, whatever the codec.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        again = "run `jepa-speech prepare --input DIR --out STORE`"
        if not (self.path / "store.json").is_file():
            what = "is unfinished: run the same prepare command again" if (self.path / "work").is_dir() else again
            raise UserError(f"{self.path}: not a whole store (it has no store.json); {what}")
        info = read_json(self.path / "store.json")
        if not isinstance(info, dict) or info.get("format") != FORMAT:
            raise UserError(f"{self.path}: not a store of format {FORMAT}; {again} into an empty folder")
        self.codec: str = info["codec"]
        self.hours: float = info["hours"]
        self.fingerprint: str = info["fingerprint"]
        index = {name: self._open(name, info["records"]) for name in INDEX}
        self._shard, self._position = index["shard"], index["position"]
        self.samples, self.level = index["samples"], index["level"]
        for shard, size in enumerate(info["shard_bytes"]):
            found = shard_path(self.path, shard)
            if not found.is_file() or found.stat().st_size != size:
                raise UserError(f"{found}: missing or of another size than prepare wrote; copy or prepare it again")
        self._readers: OrderedDict[int, ArrayRecordReader] = OrderedDict()
        self._lock = threading.Lock()

    def _open(self, name: str, records: int) -> np.ndarray:
        path = self.path / "index" / f"{name}.npy"
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path}: cannot be read ({error}); copy or prepare the store again") from error
        if array.shape != (records,) or array.dtype != INDEX[name]:
            raise UserError(f"{path}: does not fit store.json; copy or prepare the store again")
        return array

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return Store, (self.path,)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}: {len(self)} recordings, {self.hours:.2f} h)"

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, i: int, start: int = 0, samples: int | None = None) -> np.ndarray:
        """Recording i from sample `start` on, float32 in [-1, 1]: `samples` of it, or all that is left if fewer.

        Raises IndexError outside the recording, UserError where the shard is damaged.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"recording {i} of {len(self)}")
        length = int(self.samples[i])
        if not 0 <= start <= length:
            raise IndexError(f"sample {start} of recording {i}, which has {length}")
        wanted = length - start if samples is None else min(samples, length - start)
        if wanted <= 0:
            return np.zeros(0, np.float32)
        try:
            record = self._reader(int(self._shard[i])).read([int(self._position[i])])[0]
            wave = audio.crop(record, self.codec, start, wanted)
        except (RuntimeError, ValueError) as error:  # array_record's error and soundfile's are RuntimeErrors
            raise self._damaged(i) from error
        if len(wave) != wanted:
            raise self._damaged(i)
        return wave

    def records(self) -> Iterator[dict[str, Any]]:
        """One dict per recording, in order: id, source, duration (s) and the labels found."""
        return read_jsonl(self.path / "records.jsonl")

    def _damaged(self, i: int) -> UserError:
        return UserError(
            f"{shard_path(self.path, int(self._shard[i]))}: recording {i} is damaged; copy or prepare it again"
        )

    def _reader(self, shard: int) -> ArrayRecordReader:
        with self._lock:
            if shard not in self._readers:
                # One record per read: no read-ahead and no threads of its own.
                options = "readahead_buffer_size:0,max_parallelism:0"
                self._readers[shard] = ArrayRecordReader(str(shard_path(self.path, shard)), options)
            self._readers.move_to_end(shard)
            if len(self._readers) > OPEN_SHARDS:
                self._readers.popitem(last=False)  # a thread that still reads it keeps it alive
            return self._readers[shard]
