"""The chunks in which `prepare` works. Each becomes one shard.

A chunk is finished when its shard and then its sidecar (work/part-*.jsonl) have their final names, unless an earlier
version of the decoder may have decoded its recordings wrongly. The sidecar has a row per entry, and a last row about
the shard. Any process may write any chunk: two processes write the same bytes, under temporary names of their own.
"""

import errno
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from array_record.python.array_record_module import ArrayRecordReader
from isal.isal_zlib import crc32

from jepa_speech import ownership
from jepa_speech.errors import UserError
from jepa_speech.files import parse_row, read_jsonl, replacing, temporary_name
from jepa_speech.ingest.decoder import VERSION, outdated
from jepa_speech.ingest.in_bucket import fetched_ahead
from jepa_speech.ingest.lengths import Lengths
from jepa_speech.ingest.manifest import Entry
from jepa_speech.ingest.recording import recording
from jepa_speech.store.checksums import compare_seal, file_crc, sealed
from jepa_speech.store.duplicates import listed_once
from jepa_speech.store.store import shard_path
from jepa_speech.store.writing import json_line, shard_writer, writing

CHUNK_RECORDS = 1024  # most recordings of a chunk: a million short recordings are a thousand shards
SHARD_MB = 64  # MB of input files per chunk; a kill costs each worker at most this much work


def spool(listed: Iterable[Entry], file: BinaryIO, shard_bytes: int) -> tuple[str, list[list[int]]]:
    """Writes entries as JSON lines, without keeping them in memory; returns their hash and the chunks.

    A chunk is [byte offset in the file, number of entries]. It ends when its entries have `shard_bytes` bytes of audio
    files, or after CHUNK_RECORDS entries. Recordings listed twice become rejects.
    """
    chunks: list[list[int]] = []
    digest, offset, room = hashlib.sha256(), 0, 0
    for line, weight in listed_once(listed, Path(file.name).parent):
        if not chunks or chunks[-1][1] == CHUNK_RECORDS or room <= 0:
            chunks.append([offset, 0])
            room = shard_bytes
        digest.update(line)
        offset += file.write(line)
        chunks[-1][1] += 1
        room -= weight
    return digest.hexdigest(), chunks


def check_entries(store: Path, digest: str) -> None:
    """Raises UserError unless the list in STORE/work has the plan's hash."""
    path = store / "work" / "entries.jsonl"
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        found = ""
    if found != digest:
        raise UserError(f"{path}: missing or damaged; remove {store} and prepare it again")


def sidecar(store: Path, chunk: int) -> Path:
    return store / "work" / f"part-{chunk:05d}.jsonl"


def unfinished(store: Path, chunks: Iterable[int], sizes: Sequence[int]) -> list[int]:
    """Returns the chunks that are not finished. sizes: of all shards, -1 for a missing one."""
    return [chunk for chunk in chunks if sizes[chunk] < 0 or not _is_current(sidecar(store, chunk))]


def remove_empty(store: Path, plan: dict[str, Any]) -> bool:
    """Removes all chunks of an unfinished store if they have no recording; returns whether they had none.

    Only for a process that holds the store's lock alone.
    """
    if "chunks" not in plan:  # an unfinished join of stores
        return False
    files = [(sidecar(store, chunk), shard_path(store, chunk)) for chunk in range(len(plan["chunks"]))]
    try:
        if any("record" in row for rows, _ in files if rows.is_file() for row in read_jsonl(rows)):
            return False
    except UserError:  # a damaged sidecar may have had recordings
        return False
    for rows, shard in files:
        rows.unlink(missing_ok=True)
        shard.unlink(missing_ok=True)
    return True


def _is_current(path: Path) -> bool:
    """Whether a sidecar exists and is undamaged, and its recordings need not be decoded again."""
    if not path.is_file():
        return False
    try:
        return not outdated(_last_row(path), (row["record"] for row in read_jsonl(path) if "record" in row))
    except UserError:  # damaged: the chunk is written again
        return False


def _last_row(path: Path) -> dict[str, Any]:
    """Returns the row of a sidecar about its shard. Raises UserError if any row is damaged."""
    data = path.read_bytes()
    end = data.rfind(b"\n", 0, -1) + 1
    last = parse_row(data[end:], str(path))
    compare_seal(last, ("shard", "decoder"), str(path))
    if "shard" not in last or last.get("rows_crc", crc := crc32(data[:end])) != crc:
        raise UserError(f"{path}: damaged")
    return last


def remove_left_overs(store: Path, chunks: Collection[int]) -> None:
    """Removes temporary files of `chunks` left by a killed process; other parts may be at work on other chunks."""

    def one_of_them(name: str) -> bool:
        found = re.fullmatch(r"part-(\d{5,})\.(array_record|jsonl)", name)
        return found is not None and int(found[1]) in chunks

    for folder in (store / "shards", store / "work"):
        ownership.remove_temporaries(folder, one_of_them)


def _file_by_file(entries: Sequence[Entry]) -> list[int]:
    """Returns the numbers of entries, in order, except that a file's segments follow its first one, by their starts."""
    first: dict[tuple, int] = {}
    places = [(first.setdefault((e.path, e.span, e.cell), i), e.start) for i, e in enumerate(entries)]
    return sorted(range(len(entries)), key=places.__getitem__)


def write_chunk(store: Path, chunk: int, offset: int, count: int, codec: str, lengths: Lengths) -> Iterator[None]:
    """Decodes `count` entries, writes their shard, then their sidecar; yields after each entry.

    Segments of one file are decoded together. Records that are decoded before their turn wait in memory.
    """
    rows: list[dict[str, Any]] = []
    early: dict[int, tuple[dict[str, Any], bytes | None]] = {}
    shard, stored = shard_path(store, chunk), 0
    temporary = temporary_name(shard)
    with writing(store), (store / "work" / "entries.jsonl").open("rb") as file:
        file.seek(offset)
        entries = [Entry(**json.loads(file.readline())) for _ in range(count)]
        order = _file_by_file(entries)
        good = (entry for entry in map(entries.__getitem__, order) if not entry.reason)
        with shard_writer(temporary) as writer, fetched_ahead(good):
            for number in order:
                early[number] = recording(entries[number], codec, lengths)
                while (following := early.pop(len(rows), None)) is not None:
                    row, record = following
                    if record is not None:
                        row |= {"position": stored, "crc": crc32(record)}
                        stored += 1
                        writer.write(record)
                    rows.append(row)
                yield
        if ArrayRecordReader(str(temporary)).num_records() != stored:
            raise OSError(errno.EIO, "a new shard has fewer records than were written")
        whole: dict[str, Any] = {"shard": {"bytes": temporary.stat().st_size, "crc": file_crc(temporary)}}
        lines = b"".join(map(json_line, rows))
        whole |= {"decoder": VERSION, "rows_crc": crc32(lines)}
        temporary.replace(shard)
        with replacing(sidecar(store, chunk)) as about:
            about.write(lines + json_line(sealed(whole)))
