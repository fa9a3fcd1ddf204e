"""A listed recording, its labels, and the folders in which recordings may be."""

import hashlib
import math
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeGuard

from jepa_speech.cloud.arguments import with_urls
from jepa_speech.errors import UsageError
from jepa_speech.ingest.audio_source import AudioSource, stamp_of
from jepa_speech.ingest.in_bucket import stamp_in_bucket
from jepa_speech.local_paths import bucket_url, not_local

# Fields that the store itself writes. A manifest's field of such a name is kept as manifest_NAME.
STORE_KEYS = frozenset(
    ("id", "source", "start", "duration", "rate", "samples", "level", "digest", "crc", "shard", "position")
)
# Our names for transcript and speaker, other names for them in order of precedence, and the types of the values.
NAMES: dict[str, tuple[tuple[str, ...], type | tuple[type, ...]]] = {
    "text": (("txt", "sentence", "transcription", "transcript", "wrd", "words", "normalized_text"), str),
    "speaker": (("spk_id", "speaker_id", "client_id", "spk"), (str, int)),
}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")  # a number written as text
LABEL_LEVELS = 100  # deepest nesting of lists and objects; Python's json fails to write some hundreds
SHOWN = 80  # characters of a URL in a message; signed ones are long
PCM_BYTES = 32_000  # bytes of a second of 16-bit samples at 16 kHz


@dataclass(frozen=True, kw_only=True)
class Entry(AudioSource):
    """A listed recording. `reason` says why it cannot be used; it is empty as long as nothing is known to be wrong."""

    source: str  # path relative to the folder, or as written in the manifest
    real: str = ""  # the path with all links followed; "" if it is the same
    line: int | None = None  # line in the manifest
    manifest: str | None = None
    size: int | None = None  # bytes of the recording, if it is only a part of its file
    duration: float | None = None  # seconds of the whole recording, according to the manifest
    labels: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    detail: str = ""

    def refused(self, reason: str, detail: str) -> "Entry":
        return self.but(reason=reason, detail=detail)

    def labelled(self, row: Mapping[str, Any], used: Collection[str] = ()) -> "Entry":
        """Returns the entry with the labels of a manifest's row; refused (bad_label) if they are nested too deep."""
        if not _is_shallow(row, 1 + LABEL_LEVELS):
            return self.refused("bad_label", f"lists and objects are nested more than {LABEL_LEVELS} deep")
        return self.but(labels=self.labels | kept_labels(row, used))

    def but(self, **fields: Any) -> "Entry":
        """Returns a copy with other values in some fields. Ten times as fast as dataclasses.replace."""
        copy = object.__new__(Entry)
        copy.__dict__.update(self.__dict__, **fields)
        return copy

    def row(self) -> dict[str, Any]:
        """Returns the fields that differ from their defaults, for JSON."""
        return {name: value for name, default in DEFAULTS if (value := getattr(self, name)) != default}

    def weight(self) -> int:
        """Returns roughly the number of bytes to decode."""
        whole = self.stamp[0] if self.stamp else 0
        if self.seconds is not None:
            return min(whole, int(PCM_BYTES * self.seconds))
        return whole if self.size is None else self.size

    def key(self) -> bytes:
        """Returns a hash (8 bytes) by which to find entries of one recording; `identity` confirms them."""
        return hashlib.blake2b(self.identity(), digest_size=8).digest()

    def identity(self) -> bytes:
        stretch = (self.span, self.cell, float(self.start), self.seconds, self.channel)
        place = self.real or os.path.normpath(self.path)
        # surrogatepass: a manifest may give a name that no file can have.
        return place.encode("utf-8", "surrogatepass") + repr(stretch).encode()


DEFAULTS = [
    (one.name, one.default_factory() if one.default_factory is not MISSING else one.default) for one in fields(Entry)
]


class Bounds:
    """The folders in which recordings must be, with links followed: the input's own, and --root."""

    def __init__(self, *folders: str | Path | None):
        named = [str(folder) for folder in folders if folder]
        self._folders = tuple(_closed(bucket_url(folder) or os.path.realpath(folder)) for folder in named)
        self._urls = tuple(with_urls(folder) for folder in self._folders)  # of inputs in a bucket
        self._real = lru_cache(1 << 12)(os.path.realpath)

    def real(self, path: str) -> str:
        """Returns the path with all links followed. Links of folders are cached."""
        folder, name = os.path.split(path)
        if name in ("", ".", ".."):
            return os.path.realpath(path)
        real = _closed(self._real(folder)) + name
        return os.path.realpath(real) if Path(real).is_symlink() else real

    def hold(self, real: str) -> bool:
        return _closed(real).startswith(self._folders)

    def located(self, entry: Entry) -> Entry:
        """Returns the entry with its stamp, or refused: a URL (refused), outside_root, missing, unreadable."""
        if "://" in entry.source and bucket_url(entry.source):
            return self._in_bucket(entry, bucket_url(entry.source))
        if not entry.path.startswith(os.sep) and bucket_url(entry.path):  # a recipe's, with a --root in a bucket
            return self._in_bucket(entry, bucket_url(entry.path))
        try:
            real = self.real(entry.path)
            if not self.hold(real):
                return self.outside(entry)
            entry = entry.but(real=real) if real != os.path.normpath(entry.path) else entry
            return entry.but(stamp=stamp_of(Path(entry.path).stat()))
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            if isinstance(error, FileNotFoundError) and self._urls != self._folders:  # listed in the cache
                return self._in_bucket(entry, with_urls(entry.path))
            if wrong := not_local(entry.source[:SHOWN]):
                return entry.refused("refused", wrong)
            if isinstance(error, FileNotFoundError):
                return entry.refused("missing", f"{entry.path}: no such file")
            return entry.refused("unreadable", str(error))

    def _in_bucket(self, entry: Entry, url: str) -> Entry:
        url = url.partition("://")[0] + "://" + os.path.normpath(url.partition("://")[2])
        if not url.startswith(self._urls):
            return self.outside(entry)
        try:
            stamp = stamp_in_bucket(url)
        except UsageError as error:  # not the URL of an object
            return entry.refused("refused", str(error))
        entry = entry.but(path=url)
        return entry.but(stamp=stamp) if stamp else entry.refused("missing", f"{url}: no such object")

    def outside(self, entry: Entry) -> Entry:
        within = " and ".join(self._urls)
        return entry.refused("outside_root", f"its path leads out of {within}")


def _closed(folder: str) -> str:
    """Returns the folder with a final slash, so that /data/a does not contain /data/ab."""
    return folder if folder.endswith(os.sep) else folder + os.sep


def kept_labels(row: Mapping[str, Any], used: Collection[str] = ()) -> dict[str, Any]:
    """Returns the labels of a manifest's row: all keys except `used`; a transcript is `text`, a speaker `speaker`.

    NaN and infinity, which JSON lacks, become null. Fields that are null are dropped. Within lists and objects null is
    kept, so that other values keep their positions.
    """
    finite = _renamed({key: _finite(value) for key, value in row.items() if key not in used})
    return {_label_name(key, row): value for key, value in finite.items() if value is not None}


def _renamed(row: dict[str, Any]) -> dict[str, Any]:
    """Returns the row with other names for transcript and speaker replaced by ours, if ours are absent."""
    new = {}
    for ours, (theirs, kind) in NAMES.items():
        if row.get(ours) is None:
            found = (key for key in theirs if isinstance(row.get(key), kind) and not isinstance(row[key], bool))
            if key := next(found, ""):
                new[key] = ours
    if not new:
        return row
    return {new.get(key, key): value for key, value in row.items() if key not in new.values()}


def _finite(value: Any) -> Any:
    """Returns the value of a label with NaN and infinity replaced by None."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _label_name(key: str, row: Mapping[str, Any]) -> str:
    name = f"manifest_{key}" if key in STORE_KEYS else key
    while name != key and name in row:  # a manifest that has both id and manifest_id
        name = f"manifest_{name}"
    return name


def _is_shallow(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested at most `levels` deep."""
    if not isinstance(value, (dict, list)):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(one, levels - 1) for one in inner)


def is_number(value: Any) -> bool:
    """Whether `value` is a finite number of plausible size for seconds."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e9 < value < 1e9


def is_positive(seconds: Any) -> TypeGuard[float]:
    """Whether `seconds` is a plausible number above 0."""
    return is_number(seconds) and seconds > 0
