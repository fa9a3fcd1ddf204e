"""The decoder's version, and the recordings that an earlier version decoded wrongly.

Version 1 read in blocks, with a seek after each block and before a segment. Such seeks are inexact in compressed files.
Version 2 is reader.py.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

VERSION = 2
SAME = (".wav", ".flac")  # decoded correctly by every version, whole and in segments
SAME_IF_WHOLE = (".ogg", ".oga", ".opus")


def changed(name: str, is_segment: bool) -> bool:
    """Returns whether version 1 may have decoded a recording of this name wrongly.

    A store does not hold the format of a file. An MP3 named x.wav is therefore missed; a name without suffix counts.
    """
    suffix = Path(name).suffix.lower()
    return suffix not in SAME and (is_segment or suffix not in SAME_IF_WHOLE)


def changed_contents(contents: bytes, is_segment: bool) -> bool:
    """Like `changed`, but recognises the format by the contents of the file."""
    known = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg"}
    return changed("x" + known.get(contents[:4], ".mp3"), is_segment)


def outdated(info: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> int:
    """Returns the number of recordings that an earlier version may have decoded wrongly.

    Args:
        info: store.json, or the last row of a chunk's sidecar. Earlier versions wrote no field `decoder`.
        records: the rows of records.jsonl, read only if the version is an earlier one.
    """
    if info.get("decoder", 1) == VERSION:
        return 0
    return sum(changed(str(row.get("source", "")), "start" in row) for row in records)
