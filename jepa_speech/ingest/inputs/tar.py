"""A tar of audio, read by offset without unpacking. Members .json and .txt are labels (sidecars.py)."""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from jepa_speech.errors import UserError
from jepa_speech.ingest.audio_source import stamp_of
from jepa_speech.ingest.inputs.entry import Entry
from jepa_speech.ingest.inputs.folder import is_hidden, is_recording
from jepa_speech.ingest.inputs.passed_over import PassedOver
from jepa_speech.ingest.inputs.reading import Reading
from jepa_speech.ingest.inputs.sidecars import SUFFIXES as SIDECARS
from jepa_speech.ingest.inputs.sidecars import Sidecars, WrongSidecar
from jepa_speech.ingest.inputs.suffixes import REFUSED_SUFFIXES, SUFFIXES, UNREAD_SUFFIXES

HEADER_BYTES = 1 << 20
# tarfile raises these for a damaged header, because it does not check numbers in extended headers.
DAMAGED = (tarfile.TarError, ValueError, OverflowError, RecursionError)


def listed(archive: Path, reading: Reading) -> Iterator[Entry]:
    """Yields an entry per recording. Names that lead out of the archive, links, devices and sparse files are refused.

    If the archive is truncated or a header is damaged, one refused entry says so, because the lost names are unknown.
    All headers are read twice, because sidecars may be anywhere.
    """
    try:
        with archive.open("rb") as raw:
            stamp, sidecars = stamp_of(os.fstat(raw.fileno())), Sidecars()
            for member in _members(raw, stamp[0]):
                if isinstance(member, tarfile.TarInfo) and not _is_hidden(member):
                    path = PurePosixPath(member.name)
                    if path.suffix.lower() in SIDECARS:
                        sidecars.add(member, path)
                    elif path.suffix.lower() in SUFFIXES + REFUSED_SUFFIXES:
                        sidecars.add_recording(path)
            sidecars.close()
            for member in _members(raw, stamp[0]):
                if isinstance(member, str):
                    yield _cut(archive, member)
                elif _is_recording(member, reading.passed):
                    yield _labelled(_entry(archive, stamp, member), sidecars, raw.fileno())
            count, offset = sidecars.unused()
            if count:
                names = (m.name for m in _members(raw, stamp[0]) if not isinstance(m, str) and m.offset_data == offset)
                reading.passed.add("label", archive.name, next(names), count)
    except OSError as error:
        raise UserError(f"{archive}: cannot be read ({error.strerror or error})") from error
    except DAMAGED as error:
        raise UserError(f"{archive}: a damaged tar ({error}); copy or make it again") from error


class _Headers:
    """A file for tarfile that refuses to read a header of gigabytes or of negative length."""

    def __init__(self, raw: BinaryIO):
        self.seek, self.tell, self._raw = raw.seek, raw.tell, raw

    def read(self, size: int) -> bytes:
        if not 0 <= size <= HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._raw.read(size)


def _members(raw: BinaryIO, size: int) -> Iterator[tarfile.TarInfo | str]:
    """Yields the members, and finally a message if the archive does not end correctly."""
    raw.seek(0)
    # "r:" refuses compressed archives, whose members cannot be read by offset.
    with tarfile.open(fileobj=cast(BinaryIO, _Headers(raw)), mode="r:") as archive:
        while True:
            try:
                member = archive.next()
            except DAMAGED as error:
                yield f"a damaged header ({error}) at byte {archive.offset}; copy or make it again"
                return
            if member is None:
                break
            yield member
            # tarfile would keep all members in memory; its type stubs lack `members`.
            archive.members.clear()  # type: ignore[attr-defined]
            if archive.offset <= member.offset:  # reading would go backwards and never end
                yield f"a member of {member.size} bytes, at byte {member.offset}; copy or make it again"
                return
            if member.offset_data + member.size > size:
                if PurePosixPath(member.name).suffix.lower() not in SUFFIXES + REFUSED_SUFFIXES:
                    yield f"breaks off within {member.name}; copy or make it again"
                return  # a recording is refused as truncated by `_entry`
        # tarfile stops at anything that is not a header.
        end = os.pread(raw.fileno(), tarfile.BLOCKSIZE, archive.offset)
        if len(end) < tarfile.BLOCKSIZE:
            yield f"breaks off at byte {size}; copy or make it again"
        elif any(end):
            yield f"no header where one must be, at byte {archive.offset}; copy or make it again"


def _is_hidden(member: tarfile.TarInfo) -> bool:
    return member.isdir() or any(map(is_hidden, PurePosixPath(member.name).parts))


def _is_recording(member: tarfile.TarInfo, passed: PassedOver) -> bool:
    """Whether to list a member. Audio that is not read and files of other types are counted."""
    path = PurePosixPath(member.name)
    suffix = path.suffix.lower()
    if _is_hidden(member):
        if not member.isdir() and suffix in SUFFIXES:
            passed.add("hidden", "files", member.name)
        return False
    if suffix and member.isreg() and suffix not in SUFFIXES + REFUSED_SUFFIXES + UNREAD_SUFFIXES + SIDECARS:
        passed.add("member", suffix, member.name)
    return is_recording(path.name, member.name, passed)


def _cut(archive: Path, what: str) -> Entry:
    return Entry(source=archive.name, path=str(archive), manifest=str(archive)).refused("truncated", what)


def _entry(archive: Path, stamp: tuple[int, int], member: tarfile.TarInfo) -> Entry:
    entry = Entry(source=member.name, path=str(archive), manifest=str(archive), stamp=stamp)
    if not member.isreg() or member.issparse():
        return entry.refused("refused", "a link, a device or a sparse file in an archive; pack plain files")
    parts = PurePosixPath(member.name).parts
    if ".." in parts or member.name.startswith("/"):
        return entry.refused("outside_root", "a name that leads out of the archive; pack it under a plain name")
    if not 0 <= member.size <= stamp[0] - member.offset_data:
        return entry.refused("truncated", "the archive ends within it")
    return entry.but(span=(member.offset_data, member.size), size=member.size)


def _labelled(entry: Entry, sidecars: Sidecars, file: int) -> Entry:
    """Returns the entry of a recording with the labels of its sidecars."""
    try:
        labels = sidecars.labels(PurePosixPath(entry.source), file)
    except WrongSidecar as error:
        return entry if entry.reason else entry.refused("bad_json", str(error))
    return entry if entry.reason else entry.labelled(labels)
