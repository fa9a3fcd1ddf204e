"""fairseq's .tsv: a root line, then `path<TAB>samples` lines. A .wrd or .ltr file of the same name has the texts."""

from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path

from jepa_speech.errors import UserError
from jepa_speech.ingest.inputs.entry import Bounds, Entry
from jepa_speech.ingest.inputs.lines import UTF8_MARK, decoded, lines, text_of
from jepa_speech.ingest.inputs.reading import Reading
from jepa_speech.local_paths import bucket_url, not_local


def listed(manifest: Path, reading: Reading) -> Iterator[Entry]:
    """Yields an entry per line after the first. Paths are relative to the root line."""
    stem = manifest.with_suffix("") if manifest.suffix == ".gz" else manifest
    texts = next((path for suffix in (".wrd", ".ltr") if (path := stem.with_suffix(suffix)).is_file()), None)
    numbered = lines(manifest)
    number, root = next(numbered, (1, b""))
    if number > 1:  # the root line is blank: the manifest's folder
        numbered, root = chain([(number, root)], numbered), b""
    if wrong := not_local(decoded(root), buckets=True):
        raise UserError(f"{manifest}:1: its root line: {wrong}")
    url = bucket_url(decoded(root).strip()) if b"://" in root else ""
    folder = Path(url) if url else manifest.parent / decoded(root).strip()
    if "\0" in str(folder):
        raise UserError(f"{manifest}:1: its root line is not a folder's name; write the manifest again")
    bounds = reading.bounds(folder)
    try:
        for (number, line), text in _with_texts(numbered, manifest, texts):
            labels = {} if text is None else {"text": text}
            entry = Entry(source="", line=number, manifest=str(manifest), labels=labels)
            yield _entry(entry, decoded(line), folder, bounds)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error


def _with_texts(
    rows: Iterator[tuple[int, bytes]], manifest: Path, texts: Path | None
) -> Iterator[tuple[tuple[int, bytes], str | None]]:
    if texts is None:
        yield from ((row, None) for row in rows)
        return
    with texts.open("rb") as file:
        for count, (row, line) in enumerate(zip_longest(rows, file)):
            if row is None or line is None:
                fewer, more = (manifest, texts) if row is None else (texts, manifest)
                raise UserError(f"{fewer}: has only {count} lines, but {more} has more; write both files again")
            text = text_of(line.removeprefix(UTF8_MARK), f"{texts}:{count + 1}").strip()
            yield row, text.replace(" ", "").replace("|", " ").strip() if texts.suffix == ".ltr" else text


def _entry(entry: Entry, line: str, folder: Path, bounds: Bounds) -> Entry:
    source, _, samples = line.partition("\t")
    entry = entry.but(source=source, path=str(folder / source))
    if not source.strip():
        return entry.refused("no_audio_path", "no path before the tab")
    if samples and (not samples.isdecimal() or len(samples) > 15 or not int(samples)):
        return entry.refused("bad_duration", f"{samples[:20]!r} is not a number of samples")
    return bounds.located(entry.but(frames=int(samples) if samples else None))
