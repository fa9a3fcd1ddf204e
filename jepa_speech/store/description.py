"""STORE/store.json: the description of a complete store, with the CRC-32 of its fields."""

from pathlib import Path
from typing import Any

import numpy as np

from jepa_speech import checked
from jepa_speech.errors import UserError
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.files import read_object
from jepa_speech.ingest.audio import CODECS
from jepa_speech.store.checksums import DIGEST_BYTES, compare_seal
from jepa_speech.wording import quoted

FORMAT = 2
INDEX: dict[str, tuple[type, tuple[int, ...]]] = {  # name of a column -> type and shape of a row
    "shard": (np.uint32, ()),
    "position": (np.uint32, ()),
    "samples": (np.int64, ()),
    "level": (np.float32, ()),
    "digest": (np.uint8, (DIGEST_BYTES,)),
    "crc": (np.uint32, ()),
}
FILES = (*(f"index/{name}.npy" for name in INDEX), "records.jsonl", "rejects.jsonl", "duplicates.jsonl")
AGAIN = "copy or prepare the store again"
# The fields of store.json in earlier versions, which wrote no `crc`.
COUNTS = ("format", "records", "sample_rate", "duplicates", "rejected")
TEXTS = ("fingerprint", "codec", "inputs")
LISTS = ("shard_bytes", "shard_crc")
OLDER = {*COUNTS, *TEXTS, *LISTS, "hours", "shard_mb", "sources", "files_crc"}
LARGEST_CRC = 2**32 - 1


def store_info(path: Path) -> dict[str, Any]:
    """Returns STORE/store.json. Raises UserError if it is missing, of another format, or damaged."""
    again = "run `jepa-speech prepare --input DIR --out STORE`"
    where = path / "store.json"
    if not where.is_file():
        if (path / "work").is_dir():
            raise UserError(
                f"{path}: not a complete store but an unfinished one (no store.json); run the same prepare command "
                f"again, or `jepa-speech inspect {quoted(path)} --merge` once all its parts are written"
            )
        perhaps = ", perhaps an unfinished one" if path.is_dir() else ""
        raise UserError(f"{path}: not a complete store{perhaps} (no store.json); {again}")
    try:
        info = read_object(where)
        if info.get("format") == FORMAT:
            _check(info, str(where))
            return info
    except UserError as error:
        raise UserError(f"{error}; {AGAIN}") from error
    raise UserError(f"{path}: not a store of format {FORMAT}; {again} into an empty folder")


def _check(info: dict[str, Any], where: str) -> None:
    compare_seal(info, OLDER, where)
    for name in COUNTS:
        checked.field(info, name, int, where, least=int(name == "records"))
    for name in TEXTS:
        checked.field(info, name, str, where)
    checked.field(info, "codec", str, where, choices=CODECS)
    checked.field(info, "sample_rate", int, where, choices=[SAMPLE_RATE])
    checked.field(info, "hours", (int, float), where, least=0)
    sizes, crcs = (checked.field(info, name, list, where) for name in LISTS)
    for number, size in enumerate(sizes):
        checked.value(size, f"{where}: shard_bytes[{number}]", int, least=1)
    for number, crc in enumerate(crcs):
        checked.value(crc, f"{where}: shard_crc[{number}]", int, least=0, most=LARGEST_CRC)
    if not 0 < len(sizes) == len(crcs):
        raise UserError(f"{where}: {len(sizes)} shard_bytes and {len(crcs)} shard_crc")
    files = checked.field(info, "files_crc", dict, where)
    for name in FILES:
        checked.field(files, name, int, f"{where}: files_crc", least=0, most=LARGEST_CRC)
    if strange := sorted(files.keys() - set(FILES)):
        raise UserError(f"{where}: files_crc names the unknown file {strange[0]}")
    checked.field(info, "decoder", int, where, default=1)
    for name in ("min_seconds", "max_seconds"):
        checked.field(info, name, (int, float), where, default=0.0, least=0)
    checked.field(info, "passed_over", dict, where, default={})
    parts = checked.field(info, "sources", list, where, default=[])
    for number, part in enumerate(parts):
        here = f"{where}: sources[{number}]"
        for name, kind in (("name", str), ("records", int), ("hours", (int, float)), ("fingerprint", str)):
            checked.field(part, name, kind, here)
    if parts and sum(part["records"] for part in parts) != info["records"]:
        raise UserError(f"{where}: its sources do not add up to its {info['records']} records")
