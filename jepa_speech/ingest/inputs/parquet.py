"""Hugging Face's parquet with embedded audio: one column has {"bytes", "path"}, the others are labels."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jepa_speech.errors import UserError
from jepa_speech.ingest.audio_source import stamp_of
from jepa_speech.ingest.inputs.entry import Entry
from jepa_speech.ingest.inputs.lines import is_bomb
from jepa_speech.ingest.inputs.passed_over import PassedOver
from jepa_speech.ingest.inputs.reading import Reading
from jepa_speech.ingest.parquet_audio import audio_column, parquet_file, table_errors

if TYPE_CHECKING:
    import pyarrow

BATCH = 256


def listed(table: Path, reading: Reading) -> Iterator[Entry]:
    """Yields an entry per row; its `line` is the row's number from 1. The audio itself is not read.

    Raises UserError if pyarrow is missing, or if the file is damaged, has no such column or is a decompression bomb.
    """
    try:
        with table_errors(table):
            yield from _rows(table, reading.passed)
    except (ValueError, OSError) as error:
        raise UserError(f"{table}: a damaged parquet file ({error}); copy it again") from error


def _rows(table: Path, passed: PassedOver) -> Iterator[Entry]:
    stamp = stamp_of(table.stat())
    with parquet_file(table) as file:
        if (audio := audio_column(file)) is None:
            raise UserError(f'{table}: no column has {{"bytes", "path"}}; embed the audio, or list the audio files')
        columns = _label_columns(file.schema_arrow, audio, table, passed)
        with_path = file.schema_arrow.field(audio).type.get_field_index("path") >= 0
        line = 0
        for group in range(file.num_row_groups):
            about = file.metadata.row_group(group)
            size = 0
            for i in range(about.num_columns):
                column = about.column(i)
                if is_bomb(column.total_uncompressed_size, column.total_compressed_size):
                    raise UserError(f"{table}: {column.path_in_schema} is refused as a decompression bomb")
                size += column.total_uncompressed_size
            wanted = columns + ([f"{audio}.path"] if with_path else [])
            row = 0
            for batch in file.iter_batches(BATCH, row_groups=[group], columns=wanted or [f"{audio}.bytes"]):
                for values, wrong in _values(batch):
                    line, row = line + 1, row + 1
                    place = values.pop(audio, None)
                    name = (place or {}).get("path") or f"row {line}"
                    entry = Entry(
                        source=str(name),
                        path=str(table),
                        line=line,
                        manifest=str(table),
                        stamp=stamp,
                        cell=(group, row - 1),
                        size=size // about.num_rows,
                    )
                    yield entry.refused("bad_label", wrong) if wrong else entry.labelled(values)


def _label_columns(schema: "pyarrow.Schema", audio: str, table: Path, passed: PassedOver) -> list[str]:
    """Returns the names of the columns that are labels; `passed` counts the others."""
    import pyarrow.types

    columns = []
    for field in schema:
        if field.name == audio:
            continue
        if _is_label(field.type, pyarrow.types):
            columns.append(field.name)
        else:
            passed.add("column", f"{field.name} ({field.type})", str(table))
    return columns


def _is_label(kind: Any, types: Any) -> bool:
    """Whether JSON can represent the type: text, numbers, booleans, and lists and structs of these."""
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or types.is_dictionary(kind):
        return _is_label(kind.value_type, types)
    if types.is_struct(kind):
        return all(_is_label(kind.field(i).type, types) for i in range(kind.num_fields))
    plain = (
        types.is_null,
        types.is_string,
        types.is_large_string,
        types.is_integer,
        types.is_floating,
        types.is_boolean,
    )
    return any(is_one(kind) for is_one in plain)


def _values(batch: "pyarrow.RecordBatch") -> Iterator[tuple[dict[str, Any], str]]:
    """Yields the values of each row by column, and an error message ("" if there is none)."""
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError:  # one cell is wrong; reading the cells one by one finds it
        yield from (_cells(batch, i) for i in range(batch.num_rows))
    else:
        yield from ((row, "") for row in rows)


def _cells(batch: "pyarrow.RecordBatch", row: int) -> tuple[dict[str, Any], str]:
    values, wrong = {}, ""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            values[name] = column[row].as_py()
        except UnicodeDecodeError as error:
            wrong = f"its {name} is not UTF-8 (byte 0x{error.object[error.start]:02x})"
    return values, wrong
