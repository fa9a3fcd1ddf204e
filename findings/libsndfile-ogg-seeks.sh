#!/usr/bin/env bash
# libsndfile 1.2.2 (in soundfile 0.14.0): seeks in Ogg Vorbis.
#
# One would guess that a read after a seek to sample N gives the same samples from N on as one read of the whole file,
# since sf_seek returns N.
#
# Seen, in a file that libsndfile itself wrote:
# - The first seek after opening is right, except into the last page of the file. There, each start more than 600 samples
#   into the page gave wrong samples, off by up to 0.65 of full scale, with no error and the right number of samples. Of
#   four files of different lengths with such a long last page, three showed this error.
# - A second seek in the same open file, to 0.1 s to 0.5 s ahead of the end of the first read, nearly always gives wrong
#   samples. A seek backwards, or a few samples ahead, is right.
# Issue 885 of libsndfile also concerns inexact seeks in Vorbis.
#
# What to do: if samples must be exact, read from the beginning of the file and drop the samples before the segment, as
# jepa_speech/data/reader.py does.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.6

cat >"$work/seeks.py" <<'PY'
import numpy as np
import soundfile

assert soundfile.__libsndfile_version__ == "1.2.2", soundfile.__libsndfile_version__


def voice_like(rate, seconds):
    """Harmonics in noise whose loudness changes ten times a second, as in speech."""
    random = np.random.default_rng(0)
    time = np.arange(round(seconds * rate)) / rate
    steps = (time * 10).astype(int)
    pitch = random.uniform(90, 250, steps[-1] + 1)[steps]
    loudness = random.choice([0.01, 0.1, 0.3], steps[-1] + 1)[steps]
    voice = sum(np.sin(2 * np.pi * n * pitch * time) / n for n in range(1, 20)) / 2
    return np.clip(loudness * (voice + random.normal(0, 0.2, len(time))), -1, 1)


def written(name, rate, seconds):
    wave = voice_like(rate, seconds)
    with soundfile.SoundFile(name, "w", rate, 1, "VORBIS", format="OGG") as file:
        for at in range(0, len(wave), 65_536):
            file.write(wave[at : at + 65_536])
    return soundfile.read(name, dtype="float32")[0]


def error(name, whole, *seeks, count=400):
    """The largest error of `count` samples after the last of these seeks, all in one open file."""
    with soundfile.SoundFile(name) as file:
        for start in seeks:
            assert file.seek(start) == start
            found = file.read(count, dtype="float32")
        assert len(found) == count
    return np.abs(found - whole[start : start + count]).max()


def last_page(name):
    """The sample at which the last page begins: where the page before it ends."""
    data = open(name, "rb").read()
    before = data.rfind(b"OggS", 0, data.rfind(b"OggS"))
    return int.from_bytes(data[before + 6 : before + 14], "little")


def shown(what, errors):
    wrong = sum(one > 1e-6 for one in errors)
    print(f"{what}: {wrong} of {len(errors)} wrong, by up to {max(errors):.3g}")
    return wrong / len(errors)


rate = 16_000
whole = written("vorbis.ogg", rate, 18.5)
last = last_page("vorbis.ogg")
middle = range(rate, last - 2 * rate, rate // 3)
print(f"the last page holds samples {last} to {len(whole)}")
assert shown("First seek, before the last page", [error("vorbis.ogg", whole, at) for at in middle]) == 0
ends = range(last + 600, len(whole) - 400, 97)
assert shown("First seek, into the last page", [error("vorbis.ogg", whole, at) for at in ends]) == 1
for ahead, least, most in ((100, 0, 0), (1_600, 0.5, 1), (8_000, 0.5, 1), (-8_000, 0, 0)):
    errors = [error("vorbis.ogg", whole, at + 8_000, at + 8_400 + ahead) for at in middle]
    assert least <= shown(f"Second seek, {ahead} samples ahead", errors) <= most
print("seen: a seek into the last page, and a second seek a short way ahead, give wrong samples")
PY
cd "$work"
"$work/venv/bin/python" seeks.py
