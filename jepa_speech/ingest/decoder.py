"""The version of the decoder of a store's samples, and the recordings that an earlier version decoded wrongly.

Version 1 read in blocks, with a seek after each block and before a segment; such a seek is inexact in compressed files.
Version 2 is reader.py.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

VERSION = 2
SAME = (".wav", ".flac")  # decoded correctly by every version, whole and in segments
SAME_IF_WHOLE = (".ogg", ".oga", ".opus")


def changed(name: str, is_segment: bool) -> bool:
    """Returns whether version 1 gave other samples of such a recording, or may have done so, by its name.

    A store does not keep the format of a file. So an MP3 named x.wav is missed; a name without suffix counts.
    """
    suffix = Path(name).suffix.lower()
    return suffix not in SAME and (is_segment or suffix not in SAME_IF_WHOLE)


def changed_contents(contents: bytes, is_segment: bool) -> bool:
    """As `changed`, of the contents of a file, which hold whatever its name is."""
    known = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg"}
    return changed("x" + known.get(contents[:4], ".mp3"), is_segment)


def outdated(info: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> int:
    """Returns how many recordings have samples of an earlier version that may be wrong.

    Args:
        info: store.json, or the last row of a chunk's sidecar. Those of earlier versions have no field `decoder`.
        records: the rows of records.jsonl, read only where the version is an earlier one.
    """
    if info.get("decoder", 1) == VERSION:
        return 0
    return sum(changed(str(row.get("source", "")), "start" in row) for row in records)
