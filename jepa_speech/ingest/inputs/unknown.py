"""Descriptions of files that are not a known kind of manifest, for messages."""

import re

from jepa_speech.files import loads

KNOWN = (
    "JSON lines or a JSON array whose rows name a file (audio_path, path, file_name, wav, ...), Lhotse's "
    "cuts or recordings with supervisions, tables with a header (Common Voice, SpeechBrain, metadata.csv), JSON of "
    "SpeechBrain, WeNet's data.list, fairseq's .tsv, tar, parquet, a Kaldi or ESPnet directory, a folder of recordings"
)
MAGIC = {
    b"PK\x03\x04": "a ZIP archive: unpack it, and name the folder (of a spreadsheet: save it as CSV)",
    b"ARROW1": "an Arrow file: write it as parquet",
    b"\x28\xb5\x2f\xfd": "packed by zstd: unpack it",
    b"BZh": "packed by bzip2: unpack it",
    b"\xfd7zXZ": "packed by xz: unpack it",
    b"RIFF": "a recording (RIFF)",
    b"NIST_1A": "a recording (NIST SPHERE)",
    b"SQLite format 3": "a database of SQLite: write its rows as JSON lines",
}
CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")  # bytes that do not occur in text
SHOWN = 60  # characters
AUDIO = (b".wav", b".flac", b".mp3", b".ogg", b".opus")


def looks_like(head: bytes) -> str:
    """Returns a description of a file that begins with these bytes; "" if it may be JSON lines or is empty."""
    for magic, words in MAGIC.items():
        if head.startswith(magic):
            return words
    if b"\0" in head:
        return _binary(head)
    lines = [line.strip() for line in head.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()]
    if not lines or any(map(_is_object, lines)):
        return ""
    if CONTROL.search(head):
        return _binary(head)
    first, second = [*lines, b""][:2]
    if first.startswith(b"["):
        return "a JSON array of values that are not objects: write one object per recording"
    if first.startswith(b"{"):  # a single line may be longer than the head
        several = second and not second.startswith(b"{")
        return "one JSON object over several lines: write one object per recording, each on one line" if several else ""
    if first.endswith((b".tar", b".tar.gz")):
        return "WeNet's list of shards: name the archives themselves, unpacked"
    shown = first.decode("utf-8", "replace")
    if first.lower().endswith(AUDIO) and not re.search(rb"\t|: ", first):
        return f"a list of files without a header: put a first line audio_path ({_short(shown)})"
    for separator, name in (("\t", "tabs"), (",", "commas"), (";", "semicolons"), ("|", "bars")):
        if separator in shown:
            fields = ", ".join(field.strip() for field in shown.split(separator))
            return (
                f"a table separated by {name} whose first line names no column of paths (path, file_name, wav, ...): "
                f"{_short(fields)}; add a first line that names the columns, such as audio_path{separator}text"
            )
    return f"text that begins with {_short(shown)}"


def _binary(head: bytes) -> str:
    return f"a binary file that begins with 0x{head[:4].hex()}"


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(loads(line), dict)
    except ValueError:
        return False


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."
