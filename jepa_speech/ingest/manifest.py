"""Lists the recordings of any input. The kind of an input is recognised by its contents.

Every recording becomes an Entry. Errors in a line (its JSON, path or duration) are found here and kept in the entry;
errors in an audio file are found when it is decoded (decoding.py).
"""

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Protocol

from jepa_speech.cloud.arguments import with_urls
from jepa_speech.errors import UserError
from jepa_speech.ingest.in_bucket import forget_listings, local_archive, local_input, stamp_in_bucket
from jepa_speech.ingest.inputs import fairseq, folder, jsonl, kaldi, lhotse_pairs, objects, parquet, tables, tar
from jepa_speech.ingest.inputs.entry import Entry
from jepa_speech.ingest.inputs.lines import UTF8_MARK, refuse_utf16
from jepa_speech.ingest.inputs.passed_over import PassedOver, sentences
from jepa_speech.ingest.inputs.reading import Reading
from jepa_speech.ingest.inputs.suffixes import REFUSED_SUFFIXES, SUFFIXES, UNREAD_SUFFIXES
from jepa_speech.ingest.inputs.unknown import KNOWN, looks_like
from jepa_speech.local_paths import bucket_url

__all__ = ["Entry", "entries", "is_manifest", "nothing_there"]

HEAD = 4096  # first bytes of an input, by which its kind is recognised
TSV = re.compile(rb"[^\t\n]*\r?\n[^\t\n]+\t\d+\r?(\n|$)")  # a root line, then a path and a number of samples


def entries(
    inputs: Sequence[str | Path],
    root: str | Path | None = None,
    passed: PassedOver | None = None,
    anywhere: bool = False,
) -> Iterator[Entry]:
    """Yields all recordings of the inputs, in an order that depends only on their names and lines.

    Every command reads manifests with this function. Recordings must be in the input's own folder (for a .tsv, that of
    its root line) or in `root`, unless `anywhere` is set, for callers that do not copy them. `passed` counts the items
    that are left out; it is complete after the last entry.

    Raises UserError for an input that does not exist, or that is not of a kind in docs/manifests.md.
    """
    reading = Reading(root, PassedOver() if passed is None else passed, anywhere)
    forget_listings()
    if root is not None and not bucket_url(str(root)) and not Path(root).is_dir():
        raise UserError(f"--root {root}: no such folder")
    found = [(name, local := local_input(name), _kind(local)) for name in inputs]
    names = [local for _, local, _ in found]
    for name, local, kind in found:
        if kind is lhotse_pairs and lhotse_pairs.NAMES[1] in local.name and lhotse_pairs.partner(local) in names:
            continue  # its file of recordings is an input, too, and brings these supervisions
        url = bucket_url(str(name))
        yield from _in_bucket(url, local, kind, reading) if url else kind.listed(local, reading)


def _in_bucket(url: str, local: Path, kind: "Kind", reading: Reading) -> Iterator[Entry]:
    """Yields the entries of an input in a bucket, with URLs in place of local paths."""
    stamp = (stamp_in_bucket(url) or ()) if kind in (tar, parquet) else ()
    with local_archive(url, *stamp) if stamp else nullcontext(local) as path:
        for entry in kind.listed(path, reading):
            manifest = entry.manifest and with_urls(entry.manifest)
            detail = with_urls(entry.detail)
            yield entry.but(
                path=with_urls(entry.path), manifest=manifest, real="", detail=detail, stamp=stamp or entry.stamp
            )


def nothing_there(inputs: Sequence[str | Path], passed: PassedOver) -> UserError:
    """Returns the error for inputs without any recording, with the counts of items left out."""
    there = "".join(f"; {line}" for line in sentences(passed.found))
    walked = {_kind(local_input(name)) for name in inputs} & {folder, tar}
    looked = f"looked for {' '.join(SUFFIXES)}" if walked else "no row names one"
    return UserError(
        f"{', '.join(map(str, inputs))}: no recordings found ({looked}){there}",
        {"read": 0, "passed_over": passed.found},
    )


class Kind(Protocol):
    """A module that lists inputs of one kind."""

    def listed(self, path: Path, reading: Reading, /) -> Iterator[Entry]: ...


def is_manifest(file: Path) -> bool:
    """Returns whether a file is a manifest or an archive, by its contents; False for recordings and empty files."""
    try:
        return file.stat().st_size > 0 and bool(_kind(file.absolute()))
    except UserError:
        return False


def _kind(name: Path) -> Kind:
    """Returns the module that lists this input."""
    if name.is_dir():
        return _kind_of_folder(name)
    if not name.is_file():
        raise UserError(f"{name}: no such folder or manifest")
    if name.suffix.lower() in SUFFIXES + REFUSED_SUFFIXES + UNREAD_SUFFIXES:
        raise UserError(f"{name} is a recording; name a folder of recordings, a manifest, tar or parquet")
    if name.name in ("wav.scp", "segments"):
        raise UserError(f"{name} is a file of a Kaldi data directory; name the directory, {name.parent}")
    head, packed = _head(name)
    if head.startswith(b"PAR1"):
        return parquet
    if _is_tar(head):
        if packed:
            raise UserError(f"{name}: a compressed tar cannot be read by offset; unpack it: gunzip -k {name}")
        return tar
    refuse_utf16(head, name)
    text = head.removeprefix(UTF8_MARK).lstrip()
    is_json = text.startswith((b"{", b"["))
    is_named = name.name.lower().removesuffix(".gz").endswith(".tsv")
    if not is_json and (TSV.match(head) or (is_named and b"\t" not in head.partition(b"\n")[0])):
        return fairseq
    if lhotse_pairs.looks_like_one(head):
        return lhotse_pairs
    # A file named as JSON lines is read as such; wrong lines are refused one by one.
    if name.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        return jsonl
    if objects.looks_like_one(text):
        return objects
    if not is_json and tables.separator(text):
        return tables
    if words := looks_like(head):
        raise UserError(
            f"{name}: not a known kind of manifest, but {words}; known kinds are {KNOWN} (docs/manifests.md)"
        )
    return jsonl


def _kind_of_folder(name: Path) -> Kind:
    if (name / "wav.scp").is_file():
        return kaldi
    if lhotse_pairs.in_folder(name):
        return lhotse_pairs
    if (name / "feats.scp").is_file():
        raise UserError(f"{name}: a Kaldi directory of features; only audio is read: list the audio files in wav.scp")
    if (name / "dataset_info.json").is_file() and (name / "state.json").is_file():
        raise UserError(f"{name}: a dataset in Arrow files, written by save_to_disk; write it with to_parquet instead")
    return folder


def _head(name: Path) -> tuple[bytes, bool]:
    """Returns the first bytes of a file, unpacked if it is gzipped, and whether it is gzipped."""
    try:
        with name.open("rb") as file:
            if file.read(2) != b"\x1f\x8b":
                file.seek(0)
                return file.read(HEAD), False
            file.seek(0)
            return gzip.GzipFile(fileobj=file).read(HEAD), True
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror or error})") from error
    except (EOFError, zlib.error) as error:
        raise UserError(f"{name}: its gzip is damaged ({error}); copy it again") from error


def _is_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True
