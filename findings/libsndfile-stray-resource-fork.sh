#!/usr/bin/env bash
# soundfile 0.14.0 with its libsndfile 1.2.2: files named like a resource fork stop MP3 files from being read.
#
# One would guess that whether an MP3 can be read depends on its own bytes alone.
#
# Seen: an MP3 that does not begin with an ID3 tag is refused
#   - as a file object (in memory, a member of an archive, an open file), if the current folder has anything named "._" or
#     ".AppleDouble": a file with any contents, also an empty one, or a folder ("bad data offset");
#   - by its path, if a file ._NAME lies beside it, such as macOS writes on disks of other systems ("bad resource fork").
# Writing a Sound Designer II file to a file object leaves a "._" in the current folder. An MP3 with an ID3 tag is read in
# all these cases, and so are WAV and FLAC.
#
# The cause: before it looks for MPEG frames, libsndfile tries whether the file is Sound Designer II, whose header is in a
# resource fork (try_resource_fork in sndfile.c). It looks for ._NAME and .AppleDouble/NAME beside the file. A file object
# has no name and no folder. An ID3 tag leads it to MPEG before that.
#
# What to do: open a file object, not a path, and put an empty ID3 tag before the first frame, as
# jepa_speech/data/containers/mp3.py does.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.6

cat >"$work/fork.py" <<'PY'
import io
from pathlib import Path

import numpy as np
import soundfile

assert soundfile.__libsndfile_version__ == "1.2.2", soundfile.__libsndfile_version__
WAVE = 0.1 * np.random.default_rng(0).normal(size=16_000)


def encoded(kind):
    file = io.BytesIO()
    soundfile.write(file, WAVE, 16_000, format=kind)
    return file.getvalue()


def read(source):
    """Returns the number of samples, or libsndfile's error."""
    try:
        return len(soundfile.read(source)[0])
    except soundfile.LibsndfileError as error:
        return error.error_string


data = {kind: encoded(kind) for kind in ("MP3", "WAV", "FLAC")}
data["MP3 with a tag"] = b"ID3\x04" + bytes(5) + b"\x0a" + bytes(10) + data["MP3"]


def streams(where):
    found = {kind: read(io.BytesIO(one)) for kind, one in data.items()}
    print(f"{where}: {found}")
    return found


whole = dict.fromkeys(data, 16_000)
assert streams("no such file") == whole
for where, make, remove in (
    ('an empty file "._"', lambda: Path("._").touch(), lambda: Path("._").unlink()),
    ('a folder ".AppleDouble"', lambda: Path(".AppleDouble").mkdir(), lambda: Path(".AppleDouble").rmdir()),
):
    make()
    assert streams(where) == whole | {"MP3": "Error : bad data offset."}, "streams are now read beside it"
    remove()

soundfile.write(io.BytesIO(), WAVE, 16_000, format="SD2")
assert Path("._").exists(), "writing SD2 to a file object now leaves no file"
print('after writing SD2 to a file object, there is a file "._"')
Path("._").rename("._x.mp3")

Path("x.mp3").write_bytes(data["MP3"])
by_path, as_stream = read("x.mp3"), read(Path("x.mp3").open("rb"))
print(f"x.mp3 beside ._x.mp3: by its path {by_path}, as an open file {as_stream}")
assert by_path == "Error : bad resource fork." and as_stream == 16_000
Path("x.mp3").write_bytes(data["MP3 with a tag"])
assert read("x.mp3") == 16_000
print("seen: MP3 without a tag is refused because of files beside it; with an empty tag it is read")
PY
cd "$work"
"$work/venv/bin/python" fork.py
