#!/usr/bin/env bash
# soundfile 0.14.0 with its libsndfile 1.2.2: an MP3 read block by block.
#
# One would guess that reading a file in blocks gives the samples that one read of the whole file gives.
#
# Seen: for MP3, blocks give other samples. At many edges of blocks, samples are wrong by up to a third of full scale or
# more, with no error. The lower the bit rate, the more edges are wrong. A read after one seek to the middle of the file is
# wrong in the same way. FLAC is right in blocks and after a seek.
#
# The cause: after each read from a seekable file, soundfile seeks to the position that it has just reached
# (SoundFile._cdata_io). A seek resets the MP3 decoder. The next frame may need bits that are in earlier frames (the bit
# reservoir). Those bits are lost, and the frame is decoded without them.
#
# What to do: read from a subclass of SoundFile whose seekable() returns False. soundfile then does not seek between
# blocks, and blocks are right. For a segment, read from the beginning of the file and drop the samples before the segment,
# as jepa_speech/data/reader.py does.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.6

cat >"$work/blocks.py" <<'PY'
import numpy as np
import soundfile

RATE, BLOCK = 44_100, 5_000
assert soundfile.__libsndfile_version__ == "1.2.2", soundfile.__libsndfile_version__


class InOrder(soundfile.SoundFile):
    def seekable(self):
        return False


def blocks(kind, path):
    with kind(path) as file:
        found = []
        while len(block := file.read(BLOCK, dtype="float32")):
            found.append(block)
        return np.concatenate(found)


def after_seek(path, start, count):
    with soundfile.SoundFile(path) as file:
        file.seek(start)
        return file.read(count, dtype="float32")


# 20 s of harmonics in noise whose loudness changes ten times a second, as in speech.
random = np.random.default_rng(0)
time = np.arange(20 * RATE) / RATE
steps = (time * 10).astype(int)
pitch = random.uniform(90, 250, steps[-1] + 1)[steps]
loudness = random.choice([0.01, 0.1, 0.3], steps[-1] + 1)[steps]
wave = sum(np.sin(2 * np.pi * n * pitch * time) / n for n in range(1, 20)) / 2 + random.normal(0, 0.2, len(time))
wave = np.clip(loudness * wave, -1, 1)

worst = {}
for name, how in (("x.mp3", {"format": "MP3", "compression_level": 0.9}), ("x.flac", {"format": "FLAC"})):
    soundfile.write(name, wave, RATE, **how)
    whole, _ = soundfile.read(name, dtype="float32")
    edges = np.abs(blocks(soundfile.SoundFile, name) - whole)
    number = sum(edges[at : at + BLOCK].max() > 1e-4 for at in range(BLOCK, len(edges) - BLOCK, BLOCK))
    starts = range(RATE, 18 * RATE, RATE // 3)
    sought = [np.abs(after_seek(name, at, 3_000) - whole[at : at + 3_000]).max() for at in starts]
    in_order = np.abs(blocks(InOrder, name) - whole).max()
    print(
        f"{name}: blocks differ by up to {edges.max():.3g}, {number} of {len(edges) // BLOCK - 1} blocks; after a seek by "
        f"up to {max(sought):.3g}, {sum(one > 1e-4 for one in sought)} of {len(sought)}; in order by {in_order:.1g}"
    )
    worst[name] = edges.max(), max(sought)
    assert in_order < 1e-6
assert min(worst["x.mp3"]) > 1e-3, "MP3 is now right in blocks or after a seek"
assert max(worst["x.flac"]) == 0
print("seen: MP3 is wrong in blocks and after a seek, and right when soundfile does not seek")
PY
cd "$work"
"$work/venv/bin/python" blocks.py
