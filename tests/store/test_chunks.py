"""Chunks: how a listing is cut, and what a killed process leaves behind."""

import json

from jepa_speech.files import temporary_name
from jepa_speech.ingest.manifest import Entry
from jepa_speech.store.chunks import CHUNK_RECORDS, remove_left_overs, spool, unfinished
from jepa_speech.store.store import shard_path


def test_chunks_are_bounded_and_cover_all(tmp_path):
    small = [Entry(source=f"{i}é", stamp=(10, 0)) for i in range(2 * CHUNK_RECORDS + 5)]
    large = [Entry(source="large", stamp=(1_000_000, 0))] * 2
    with (tmp_path / "spool").open("wb") as file:
        digest, chunks = spool(small + large, file, 1_000_000)
    assert [count for _, count in chunks] == [CHUNK_RECORDS, CHUNK_RECORDS, 6, 1]
    raw = (tmp_path / "spool").read_bytes()
    for (offset, count), first in zip(chunks, (small + large)[::CHUNK_RECORDS], strict=False):
        assert json.loads(raw[offset:].splitlines()[0])["source"] == first.source and count
    with (tmp_path / "again").open("wb") as file:
        assert spool(small + large, file, 1_000_000)[0] == digest


def test_a_stated_size_bounds_the_inputs_of_a_shard(tmp_path):
    files = [Entry(source="x", stamp=(300, 0))] * 10
    for shard_bytes, counts in [(300, [1] * 10), (301, [2] * 5), (900, [3, 3, 3, 1]), (10_000, [10])]:
        with (tmp_path / "spool").open("wb") as file:
            assert [count for _, count in spool(files, file, shard_bytes)[1]] == counts


def test_left_overs_of_other_parts_stay(tmp_path):
    (tmp_path / "shards").mkdir()
    (tmp_path / "work").mkdir()
    left = [temporary_name(shard_path(tmp_path, chunk)) for chunk in (0, 1, 2, 10)]
    for path in left:
        path.touch()
    remove_left_overs(tmp_path, range(0, 12, 2))
    assert [path.exists() for path in left] == [False, True, False, False]
    assert unfinished(tmp_path, range(3), [-1] * 3) == [0, 1, 2]
