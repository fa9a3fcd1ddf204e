#!/usr/bin/env bash
# array_record 0.8.6: files that are cut off, or whose writer was never closed.
#
# One would guess that a file without its end cannot be opened, since the index of the records is there, and a flipped bit
# in a record raises an error.
#
# Seen: ArrayRecordReader opens it without an error or a warning, and num_records() is 0, wherever the file was cut, even if
# only its last byte is missing. The same goes for what a process leaves that ends before close(): 33 MB on disk with no
# record, or 0 bytes. ArrayRecordDataSource of a whole and a cut file is just shorter, so an epoch leaves records out in
# silence. Only read_all() raises, for files below 64 kB.
#
# What to do: keep the number of records elsewhere and compare, as jepa_speech/store/chunks.py does.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check array_record==0.8.6 etils==1.14.0 numpy==2.4.6

cat >"$work/cut.py" <<'PY'
import importlib.metadata
import os
import subprocess
import sys

from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

assert importlib.metadata.version("array_record") == "0.8.6"


def write(name, count, close=True):
    writer = ArrayRecordWriter(name, "group_size:1,uncompressed")
    for _ in range(count):
        writer.write(os.urandom(100_000))
    if not close:
        os._exit(0)
    writer.close()


if len(sys.argv) > 1:
    write("killed", int(sys.argv[1]), close=False)
write("whole", 40)
whole = open("whole", "rb").read()
assert ArrayRecordReader("whole").num_records() == 40
cuts = [*range(0, len(whole), 100_003), len(whole) - 1]
for cut in cuts:
    with open("cut", "wb") as file:
        file.write(whole[:cut])
    assert ArrayRecordReader("cut").num_records() == 0
print(f"a file of {len(whole)} bytes and 40 records, cut off at {len(cuts)} places: always 0 records")
assert len(ArrayRecordDataSource(["whole", "cut"])) == 40
for count in (3, 400):
    subprocess.run([sys.executable, __file__, str(count)], check=True)
    assert ArrayRecordReader("killed").num_records() == 0
    print(f"a process ended before close(), after {count} records: {os.path.getsize('killed')} bytes, 0 records")
print("seen: a file without its end is an empty one, with no error")
PY
cd "$work"
"$work/venv/bin/python" cut.py 2>&1
