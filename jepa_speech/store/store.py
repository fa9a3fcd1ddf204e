"""The store: recordings from which crops can be read. Written by `prepare`, read by everything else.

STORE/store.json        written last, so its presence means that the store is complete
STORE/shards/           ArrayRecord, one encoded recording per record
STORE/index/            one row per record: shard.npy, position.npy and crc.npy uint32, samples.npy int64,
                        level.npy float32, digest.npy uint8 (N, 16)
STORE/records.jsonl     id, source, duration (s) and labels, one line per record
STORE/rejects.jsonl     recordings that could not be used, and why
STORE/duplicates.jsonl  ids of recordings with the same samples
"""

import math
import resource
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from isal.isal_zlib import crc32

from jepa_speech.array_files import read_npy
from jepa_speech.cloud.cache import Shard
from jepa_speech.errors import UserError
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.files import parse_row
from jepa_speech.ingest import audio
from jepa_speech.ingest.decoder import outdated
from jepa_speech.store.checksums import file_crc, fingerprint
from jepa_speech.store.description import AGAIN, INDEX, store_info
from jepa_speech.store.store_files import BucketFiles, LocalFiles, files_of, shard_name
from jepa_speech.wording import counted, duration

# Shards that are open at a time: half of the files that this process may open, usually 512 of 1,024. With 128 of 977
# shards open, random reads were a third as fast as with all of them. An open shard takes about 8 kB.
OPEN_SHARDS = min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


def shard_path(store: Path, shard: int) -> Path:
    return store / shard_name(shard)


class Store:
    """A complete store, open for reading. Threads may share it. After pickling, its files are opened again.

    path: its folder, or its URL in a bucket, from which files are fetched when they are needed (`store_files.py`).

    Checksums are compared when a file is opened (store.json, index), when a record is read, and after the last row
    (records.jsonl, rejects.jsonl). damaged: open the store even if shards or index are damaged, to inspect it. Raises
    UserError if the store is missing, unfinished or damaged.

    Attributes: `name`, the path or URL; `files`; `path`, the local folder where files are opened; `samples` (N,) int64;
    `level` (N,) float32, RMS of each whole recording, 1 for digital silence; `digest` (N, 16) uint8, a hash of each
    recording's samples; `hours`; `codec`; `fingerprint`, a hash of all samples in order, which does not depend on the
    codec; `index`, all columns; `info`, the contents of store.json.
    """

    def __init__(self, path: str | Path | LocalFiles | BucketFiles, damaged: bool = False):
        self.files = files_of(path)
        self.name, self.path = self.files.name, self.files.folder
        self.info = store_info(self.path)
        self.codec: str = self.info["codec"]
        self.hours: float = self.info["hours"]
        self.fingerprint: str = self.info["fingerprint"]
        self.files.fetch("index/*.npy")
        self.index = {name: self._open(name, self.info["records"]) for name in INDEX}
        self.samples, self.level, self.digest = (self.index[name] for name in ("samples", "level", "digest"))
        self._shard, self._position, self._crc = (self.index[name] for name in ("shard", "position", "crc"))
        if not damaged:
            self._compare_index()
        if not damaged and (wrong := self.wrong_shards()):
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            found = f"{self.name}/{shard_name(wrong[0])}"
            raise UserError(f"{found}{more}: missing, or not of the size that was written; {AGAIN}")
        # Of each open shard its reader, and which file that reads.
        self._readers: OrderedDict[int, tuple[ArrayRecordReader, int]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def sources(self) -> list[dict[str, Any]]:
        """Name, records, hours and fingerprint of each store from which this one was joined, or of itself."""
        itself = {"name": Path(self.name).absolute().name, "records": len(self), "hours": self.hours}
        return self.info.get("sources") or [itself | {"fingerprint": self.fingerprint}]

    @property
    def remote(self) -> bool:
        """Whether the store is in a bucket."""
        return isinstance(self.files, BucketFiles)

    def outdated(self) -> int:
        """Returns the number of recordings that an earlier version may have decoded wrongly."""
        return outdated(self.info, self.records())

    def wrong_shards(self) -> list[int]:
        """Returns the shards that are missing, or not of the size that was written."""
        sizes = self.info["shard_bytes"]
        found = self.files.shard_sizes(len(sizes))
        return [shard for shard, size in enumerate(sizes) if found[shard] != size]

    def _open(self, name: str, records: int) -> np.ndarray:
        path = self.path / "index" / f"{name}.npy"
        try:
            array = read_npy(path, AGAIN)
        except FileNotFoundError as error:
            raise UserError(f"{path}: missing; {AGAIN}") from error
        kind, row = INDEX[name]
        if array.shape != (records, *row) or array.dtype != kind:
            raise UserError(f"{path}: does not match store.json; {AGAIN}")
        return array

    def _compare_index(self) -> None:
        for name in INDEX:
            path = self.path / "index" / f"{name}.npy"
            if file_crc(path) != self.info["files_crc"][f"index/{name}.npy"]:
                raise UserError(f"{path}: not the bytes that were written; {AGAIN}")
        if "crc" not in self.info:  # earlier versions wrote none; only the index can confirm store.json
            hours = float(self.samples.sum() / SAMPLE_RATE / 3600)
            if self.fingerprint != fingerprint(self.digest) or not math.isclose(self.hours, hours, rel_tol=1e-6):
                path = self.path / "store.json"
                raise UserError(f"{path}: its fingerprint or hours do not match the index; {AGAIN}")

    def __reduce__(self) -> tuple[type, tuple[LocalFiles | BucketFiles]]:
        return Store, (self.files,)

    def __repr__(self) -> str:
        return f"Store({self.name!r}: {counted(len(self), 'recording')}, {duration(self.hours)})"

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, i: int, start: int = 0, samples: int | None = None) -> np.ndarray:
        """Returns up to `samples` samples of recording i from `start` on, float32 in [-1, 1]; by default all.

        Raises IndexError outside the recording, UserError if the shard is damaged.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"recording {i} of {len(self)}")
        length = int(self.samples[i])
        if not 0 <= start <= length:
            raise IndexError(f"sample {start} of recording {i}, which has {length}")
        wanted = length - start if samples is None else min(samples, length - start)
        if wanted <= 0:
            return np.zeros(0, np.float32)
        record = self.record(i)
        try:
            wave = audio.crop(record, self.codec, start, wanted)
        except (RuntimeError, ValueError) as error:  # soundfile's are RuntimeErrors
            raise self._damaged(i) from error
        if len(wave) != wanted:
            raise self._damaged(i)
        return wave

    def record(self, i: int) -> bytes:
        """Returns the encoded bytes of recording i. Raises UserError if they are damaged."""
        try:
            record = self._reader(int(self._shard[i])).read([int(self._position[i])])[0]
        except (RuntimeError, ValueError, IndexError) as error:  # array_record's, one for each kind of damage
            raise self._damaged(i) from error
        if crc32(record) != self._crc[i]:
            raise self._damaged(i)
        return record

    def records(self) -> Iterator[dict[str, Any]]:
        """Yields one dict per recording, in order: id, source, duration (s) and labels."""
        return self._rows("records.jsonl")

    def named(self, i: int) -> str:
        """Returns the name of recording i for messages: number, store and source."""
        row = next(islice(self.records(), i, None))
        return f"recording {i} of {self.name} ({row.get('source', 'unknown source')})"

    def rejects(self) -> Iterator[dict[str, Any]]:
        """Yields one dict per rejected recording: source, manifest and line if there is a manifest, reason, detail."""
        return self._rows("rejects.jsonl")

    def _rows(self, name: str) -> Iterator[dict[str, Any]]:
        self.files.fetch(name)
        return checked_rows(self.path / name, self.info["files_crc"][name])

    def _damaged(self, i: int) -> UserError:
        return UserError(f"{shard_path(self.path, int(self._shard[i]))}: recording {i} is damaged; {AGAIN}")

    def _reader(self, shard: int) -> ArrayRecordReader:
        with self._lock:
            if shard in self._readers:
                self._readers.move_to_end(shard)
                return self._readers[shard][0]
        with self.shard(shard) as path, self._lock:  # a shard may have to be fetched, while others are read
            # Disks keep the bytes of an evicted shard while it is open.
            gone = [one for one, (_, identity) in self._readers.items() if self.files.identity(one) != identity]
            for one in gone:
                del self._readers[one]
            # A read takes one record, so read-ahead and threads would cost time.
            reader = ArrayRecordReader(str(path), "readahead_buffer_size:0,max_parallelism:0")
            self._readers[shard] = reader, self.files.identity(shard)
            if len(self._readers) > OPEN_SHARDS:
                self._readers.popitem(last=False)  # it stays open while another thread reads from it
            return reader

    def in_bucket(self, records: np.ndarray) -> list[Shard]:
        """Returns the shards in a bucket that have these records (B,); none of a local store."""
        if not isinstance(self.files, BucketFiles):
            return []
        sizes, crcs = self.info["shard_bytes"], self.info["shard_crc"]
        return [
            self.files.wanted(shard, sizes[shard], crcs[shard]) for shard in np.unique(self._shard[records]).tolist()
        ]

    def shard(self, shard: int) -> AbstractContextManager[Path]:
        """Yields the path of a shard, which is fetched if it is in a bucket, and stays while the block runs."""
        return self.files.shard(shard, self.info["shard_bytes"][shard], self.info["shard_crc"][shard])


def checked_rows(path: Path, crc: int) -> Iterator[dict[str, Any]]:
    """Yields the rows of a JSON-lines file whose CRC-32 is `crc`.

    Raises UserError for a line that is not a row, and after the last row if the CRC-32 differs; the rows must then not
    be used.
    """
    found = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                found = crc32(line, found)
                yield parse_row(line, f"{path}:{number}")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {AGAIN}") from error
    if found != crc:
        raise UserError(f"{path}: not the bytes that were written; {AGAIN}")
