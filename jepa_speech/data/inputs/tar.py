"""A tar of audio, read by offset and never unpacked; .json and .txt of the same stem beside a recording label it.

Recordings and their sidecars must follow each other, as in the archives of webdataset.
"""

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from jepa_speech.data.inputs.entry import Entry
from jepa_speech.data.inputs.folder import REFUSED_SUFFIXES, SUFFIXES
from jepa_speech.data.place import stamp_of
from jepa_speech.errors import UserError

SIDECARS = (".json", ".txt")
SIDECAR_BYTES = HEADER_BYTES = 1 << 20


def listed(archive: Path) -> Iterator[Entry]:
    """An entry per recording. Names that leave the archive, links, devices and sparse files are refused.

    Where the archive breaks off or a header is damaged, an entry says so: tar cannot know what was lost.
    """
    stem, group = None, []
    try:
        with archive.open("rb") as raw:
            stamp = stamp_of(os.fstat(raw.fileno()))
            for member in _members(raw, stamp[0]):
                if isinstance(member, str):
                    group.append(("", _cut(archive, member)))
                    continue
                path = PurePosixPath(member.name)
                if path.name.startswith(".") or member.isdir():
                    continue
                suffix, place = path.suffix.lower(), (path.parent, path.stem)
                if place != stem:
                    yield from _labelled(group)
                    stem, group = place, []
                if suffix in SIDECARS:
                    is_plain = member.isreg() and member.size <= SIDECAR_BYTES
                    data = os.pread(raw.fileno(), member.size, member.offset_data) if is_plain else None
                    group.append((suffix, data))
                elif suffix in SUFFIXES + REFUSED_SUFFIXES:
                    group.append(("", _entry(archive, stamp, member)))
            yield from _labelled(group)
    except OSError as error:
        raise UserError(f"{archive}: cannot be read ({error.strerror or error})") from error
    except tarfile.TarError as error:
        raise UserError(f"{archive}: a damaged tar ({error}); copy or make it again") from error


class _Headers:
    """A file for tarfile that holds no header's claim of a long name to be worth gigabytes."""

    def __init__(self, raw: BinaryIO):
        self.seek, self.tell, self._raw = raw.seek, raw.tell, raw

    def read(self, size: int) -> bytes:
        if size > HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._raw.read(size)


def _members(raw: BinaryIO, size: int) -> Iterator[tarfile.TarInfo | str]:
    """The members; last of all, what is wrong with the archive's end if it does not end as it must."""
    # "r:" takes no compressed archive: members of one cannot be read by offset.
    with tarfile.open(fileobj=_Headers(raw), mode="r:") as archive:
        while (member := archive.next()) is not None:
            yield member
            archive.members.clear()  # tarfile would keep them all
            if member.offset_data + member.size > size:
                return  # the member itself is refused as truncated
        # tarfile takes anything that is no header for the end.
        end = os.pread(raw.fileno(), tarfile.BLOCKSIZE, archive.offset)
        if len(end) < tarfile.BLOCKSIZE:
            yield f"breaks off at byte {size}; copy or make it again"
        elif any(end):
            yield f"no header where one must be, at byte {archive.offset}; copy or make it again"


def _cut(archive: Path, what: str) -> Entry:
    return Entry(source=archive.name, path=str(archive), manifest=str(archive)).refused("truncated", what)


def _entry(archive: Path, stamp: tuple[int, int], member: tarfile.TarInfo) -> Entry:
    entry = Entry(source=member.name, path=str(archive), manifest=str(archive), stamp=stamp)
    if not member.isreg() or member.issparse():
        return entry.refused("refused", "a link, a device or a sparse file in an archive; pack plain files")
    parts = PurePosixPath(member.name).parts
    if ".." in parts or member.name.startswith("/"):
        return entry.refused("outside_root", "a name that leads out of the archive; pack it under a plain name")
    if member.offset_data + member.size > stamp[0]:
        return entry.refused("truncated", "the archive ends within it")
    return entry.but(span=(member.offset_data, member.size), size=member.size)


def _labelled(group: list[tuple[str, Entry | bytes | None]]) -> Iterator[Entry]:
    """The recordings of members with the same stem, with what their sidecars say."""
    labels, wrong = {}, ()
    for suffix, data in group:
        if suffix and data is None:
            wrong = ("bad_json", f"its {suffix} is no plain file of up to {SIDECAR_BYTES >> 20} MB")
        elif suffix == ".txt":
            labels["text"] = data.decode("utf-8", "replace").strip()
        elif suffix == ".json":
            try:
                row = json.loads(data)
                labels |= row if isinstance(row, dict) else {"label": row}
            except (ValueError, RecursionError) as error:
                wrong = ("bad_json", f"its .json: {error}")
    for suffix, entry in group:
        if not suffix:
            if not entry.reason:
                entry = entry.refused(*wrong) if wrong else entry.labelled(labels)
            yield entry
