"""Hugging Face's parquet with embedded audio: a column of {"bytes", "path"}; the others are labels."""

from collections.abc import Iterator
from pathlib import Path

from jepa_speech.data.cells import audio_column, parquet_file
from jepa_speech.data.inputs.entry import Entry
from jepa_speech.data.inputs.lines import is_bomb
from jepa_speech.data.place import stamp_of
from jepa_speech.errors import UserError

BATCH = 256


def listed(table: Path) -> Iterator[Entry]:
    """An entry per row, whose number from 1 is its `line`. The audio itself is not read.

    Raises UserError without pyarrow, for a damaged file, one without such a column, or one that expands absurdly.
    """
    try:
        yield from _rows(table)
    except (ValueError, OSError) as error:  # pyarrow's are of these
        raise UserError(f"{table}: a damaged parquet file ({error}); copy it again") from error


def _rows(table: Path) -> Iterator[Entry]:
    stamp = stamp_of(table.stat())
    with parquet_file(table) as file:
        import pyarrow.types

        if (audio := audio_column(file)) is None:
            raise UserError(f'{table}: no column of {{"bytes", "path"}}; embed the audio, or list its files')
        fields = [field for field in file.schema_arrow if field.name != audio and _is_label(field.type, pyarrow.types)]
        columns = [field.name for field in fields]
        with_path = file.schema_arrow.field(audio).type.get_field_index("path") >= 0
        line = 0
        for group in range(file.num_row_groups):
            about = file.metadata.row_group(group)
            size = 0
            for i in range(about.num_columns):
                column = about.column(i)
                if is_bomb(column.total_uncompressed_size, column.total_compressed_size):
                    raise UserError(f"{table}: {column.path_in_schema} expands absurdly; refused as a bomb")
                size += column.total_uncompressed_size
            wanted = columns + ([f"{audio}.path"] if with_path else [])
            row = 0
            for batch in file.iter_batches(BATCH, row_groups=[group], columns=wanted or [f"{audio}.bytes"]):
                for values in batch.to_pylist():
                    line, row = line + 1, row + 1
                    name = (values.pop(audio, None) or {}).get("path") or f"row {line}"
                    yield Entry(
                        source=str(name),
                        path=str(table),
                        line=line,
                        manifest=str(table),
                        stamp=stamp,
                        cell=(group, row - 1),
                        size=size // about.num_rows,
                    ).labelled(values)


def _is_label(kind, types) -> bool:
    if types.is_list(kind) or types.is_large_list(kind):
        return _is_label(kind.value_type, types)
    plain = (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_boolean)
    return any(is_one(kind) for is_one in plain)
