"""JSON lines of the released code, NeMo, WeNet, Lhotse (cuts) and Hugging Face (metadata.jsonl); see rows.py."""

from collections.abc import Iterator
from pathlib import Path

from jepa_speech.files import loads
from jepa_speech.ingest.inputs.entry import Entry
from jepa_speech.ingest.inputs.lines import lines, not_utf8
from jepa_speech.ingest.inputs.reading import Reading
from jepa_speech.ingest.inputs.rows import Rows


def listed(manifest: Path, reading: Reading) -> Iterator[Entry]:
    """Yields an entry per line that is not blank. The entry of a wrong line is refused."""
    rows = Rows(manifest, reading)
    for number, line in lines(manifest):
        try:
            row = loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            yield rows.at(number).refused("bad_json", not_utf8(error))
        except ValueError as error:
            yield rows.at(number).refused("bad_json", str(error))
        else:
            yield rows.entry(number, row)
