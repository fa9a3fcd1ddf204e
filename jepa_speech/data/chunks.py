"""The work of `prepare` in chunks: each becomes one shard, and is finished or not begun.

A chunk is finished when its shard and then its sidecar (work/part-*.jsonl) carry their final names, unless an earlier
version of the decoder may have got its recordings wrong. The sidecar has a row per entry, then one of the shard itself.
Any process may write any chunk; two that write the same one write the same bytes under names of their own.
"""

import errno
import hashlib
import json
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from array_record.python.array_record_module import ArrayRecordReader

from jepa_speech.data.checksums import file_crc
from jepa_speech.data.decoder import VERSION, outdated
from jepa_speech.data.duplicates import listed_once
from jepa_speech.data.manifest import Entry
from jepa_speech.data.recording import recording
from jepa_speech.data.store import shard_path
from jepa_speech.data.writing import json_line, shard_writer, writing
from jepa_speech.files import read_jsonl, replacing, temporary_name

LAST_ROW = 4096  # bytes that hold the last row of a sidecar
CHUNK_RECORDS = 1024  # at most: a million short recordings are a thousand shards
SHARD_MB = 64  # of the files as they come: a kill costs no more work than this for each worker


def spool(listed: Iterable[Entry], file: BinaryIO, shard_bytes: int) -> tuple[str, list[list[int]]]:
    """Writes entries as JSON lines, so that none stays in memory; returns their hash and the chunks to work in.

    A chunk is [byte offset in the file, number of entries]. It ends with the entry that brings the bytes to read to
    `shard_bytes`, or with the CHUNK_RECORDS-th. Recordings listed twice become rejects.
    """
    digest, chunks, offset, room = hashlib.sha256(), [], 0, 0
    for line, weight in listed_once(listed, Path(file.name).parent):
        if not chunks or chunks[-1][1] == CHUNK_RECORDS or room <= 0:
            chunks.append([offset, 0])
            room = shard_bytes
        digest.update(line)
        offset += file.write(line)
        chunks[-1][1] += 1
        room -= weight
    return digest.hexdigest(), chunks


def sidecar(store: Path, chunk: int) -> Path:
    return store / "work" / f"part-{chunk:05d}.jsonl"


def unfinished(store: Path, chunks: Iterable[int]) -> list[int]:
    """Those of `chunks` that are still to be written."""
    return [c for c in chunks if not (shard_path(store, c).is_file() and _is_current(sidecar(store, c)))]


def _is_current(path: Path) -> bool:
    """Whether a sidecar is there to its last row, and its recordings are decoded as they are now."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LAST_ROW))
        lines = file.read().splitlines()
    try:
        last = json.loads(lines[-1]) if lines else None
    except ValueError:  # cut within its last row
        return False
    if not isinstance(last, dict) or "shard" not in last:
        return False
    return not outdated(last, (row["record"] for row in read_jsonl(path) if "record" in row))


def remove_left_overs(store: Path, chunks: Collection[int]) -> None:
    """Removes what a killed process left of `chunks`. Those of other parts may be being written just now."""
    for folder in (store / "shards", store / "work"):
        for path in folder.glob(".part-*.tmp"):
            if int(re.match(r"\.part-(\d+)", path.name)[1]) in chunks:
                path.unlink(missing_ok=True)


def _file_by_file(entries: Sequence[Entry]) -> list[int]:
    """The numbers of entries in their order, except that all segments of a file follow its first, by their starts."""
    first: dict[tuple, int] = {}
    places = [(first.setdefault((e.path, e.span, e.cell), i), e.start) for i, e in enumerate(entries)]
    return sorted(range(len(entries)), key=places.__getitem__)


def write_chunk(store: Path, chunk: int, offset: int, count: int, codec: str) -> Iterator[None]:
    """Decodes `count` entries, writes their shard, then their sidecar; yields after each entry.

    Segments of one file are decoded together. What is then early waits in memory, at most the records of the chunk.
    """
    shard, rows, early, stored = shard_path(store, chunk), [], {}, 0
    temporary = temporary_name(shard)
    with writing(store), (store / "work" / "entries.jsonl").open("rb") as file:
        file.seek(offset)
        entries = [Entry(**json.loads(file.readline())) for _ in range(count)]
        with shard_writer(temporary) as writer:
            for number in _file_by_file(entries):
                early[number] = recording(entries[number], codec)
                while (following := early.pop(len(rows), None)) is not None:
                    row, record = following
                    if record is not None:
                        row |= {"position": stored, "crc": zlib.crc32(record)}
                        stored += 1
                        writer.write(record)
                    rows.append(row)
                yield
        if ArrayRecordReader(str(temporary)).num_records() != stored:
            raise OSError(errno.EIO, "a shard reads back shorter than it was written")
        whole: dict[str, Any] = {"shard": {"bytes": temporary.stat().st_size, "crc": file_crc(temporary)}}
        whole["decoder"] = VERSION
        temporary.replace(shard)
        with replacing(sidecar(store, chunk)) as lines:
            lines.writelines(map(json_line, [*rows, whole]))
