#!/usr/bin/env bash
# libsndfile 1.2.2 (in soundfile 0.14.0): the length of an MP3 with several bit rates and no frame count.
#
# One would guess that reading an MP3 to its end gives all of its samples.
#
# Seen: libsndfile stops after about a sixth of the file, with no error. The file is sound: a chain of whole frames, without
# the optional first frame (Xing) in which encoders write the number of frames. Streams, and files that were cut or joined,
# often have no such frame. libsndfile then computes the length from the number of bytes and the bit rate of the first
# frame, and reads nothing beyond that length.
#
# What to do: count the frames, from header to header. jepa_speech (data/containers/mp3.py) puts a first frame with that
# number before the others; libsndfile then reads all samples.
# Issue 1001 of libsndfile also concerns wrong lengths of MP3 files.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.6

cat >"$work/length.py" <<'PY'
import numpy as np
import soundfile

RATE = 44_100
assert soundfile.__libsndfile_version__ == "1.2.2", soundfile.__libsndfile_version__
KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # of MPEG 1, layer 3


def frame_size(head):
    """Bytes of the frame of MPEG 1, layer 3, 44.1 kHz with this header."""
    assert head[0] == 0xFF and head[1] & 0xFE == 0xFA and head[2] >> 2 & 3 == 0
    return 144_000 * KBITS[(head[2] >> 4) - 1] // RATE + (head[2] >> 1 & 1)


def read(data):
    with open("x.mp3", "wb") as file:
        file.write(data)
    return soundfile.read("x.mp3", dtype="float32")[0]


# 2 s of loud noise, then 18 s of very quiet noise, so that the bit rate falls.
random = np.random.default_rng(0)
wave = random.normal(0, 1, 20 * RATE) * np.where(np.arange(20 * RATE) < 2 * RATE, 0.2, 0.0005)
soundfile.write("x.mp3", wave, RATE, format="MP3", compression_level=0.9, bitrate_mode="VARIABLE")
data = open("x.mp3", "rb").read()
assert b"Xing" in data[:48]
bare = data[frame_size(data) :]
at, frames, rates = 0, 0, set()
while at < len(bare):
    rates.add(KBITS[(bare[at + 2] >> 4) - 1])
    at, frames = at + frame_size(bare[at:]), frames + 1
assert at == len(bare)
counted, guessed = len(read(data)) / RATE, len(read(bare)) / RATE
print(f"{frames} whole frames of {sorted(rates)} kbit/s, {frames * 1152 / RATE:.2f} s")
print(f"read with the frame that counts them: {counted:.2f} s; without it: {guessed:.2f} s")
assert abs(counted - 20) < 0.01
assert guessed < 15, "all samples are read now"
print("seen: most of a whole MP3 is left out, with no error")
PY
cd "$work"
"$work/venv/bin/python" length.py
