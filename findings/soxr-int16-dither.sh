#!/usr/bin/env bash
# soxr 1.1.0 (python-soxr): 16-bit audio that is resampled as int16.
#
# One would guess that resampling digital silence gives digital silence, that two channels with equal samples stay equal,
# and that a stream gives the same samples whatever the size of its chunks, as all three are true of float32.
#
# Seen: libsoxr adds random noise (dither) to int16 output, and python-soxr has no argument that switches it off.
# - Of the zeros, about a quarter become -1 or 1.
# - Of a recording in two equal channels, the channels differ in nearly half of the samples, so a check for "mono in a
#   stereo file" fails, and their difference is no longer silence.
# - Resampled in chunks of 1,000 samples, nearly half of the samples differ from those of chunks of 480, by up to 2.
# The noise is the same in each run, since its seed is fixed.
#
# What to do: convert to float32 before resampling, and round once at the end, as jepa_speech/ingest/decoding.py and
# jepa_speech/probing/baselines.py do.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check soxr==1.1.0 numpy==2.4.6

cat >"$work/dither.py" <<'PY'
import numpy as np
import soxr

random = np.random.default_rng(0)
zeros = np.zeros(96_000)
wave = np.rint(3000 * random.standard_normal(96_000))


def streamed(wave, dtype, size):
    stream = soxr.ResampleStream(48_000, 16_000, 1, dtype=dtype)
    chunks = [wave[at : at + size].astype(dtype) for at in range(0, len(wave), size)]
    return np.concatenate([stream.resample_chunk(x, last=i + 1 == len(chunks)) for i, x in enumerate(chunks)])


def seen(dtype):
    """The fractions of zeros that changed, of frames whose equal channels differ, and of samples that chunks change."""
    silence = soxr.resample(zeros.astype(dtype), 48_000, 16_000)
    stereo = soxr.resample(np.stack([wave, wave], axis=1).astype(dtype), 48_000, 16_000)
    ours, theirs = streamed(wave, dtype, 1_000), streamed(wave, dtype, 480)
    assert silence.dtype == stereo.dtype == ours.dtype == dtype and len(ours) == len(theirs) == 32_000
    off = np.abs(ours.astype(float) - theirs)
    fractions = (silence != 0).mean(), (stereo[:, 0] != stereo[:, 1]).mean(), (off > 0).mean()
    print(f"{dtype}: zeros that changed {fractions[0]:.1%}, frames whose channels differ {fractions[1]:.1%}, "
          f"samples that depend on the chunks {fractions[2]:.1%}, by up to {off.max():g}")
    return fractions


assert seen("float32") == (0, 0, 0)
silence, stereo, chunks = seen("int16")
assert 0.2 < silence < 0.3 and 0.4 < stereo < 0.5 and 0.4 < chunks < 0.5
print("seen: int16 is dithered, so silence, equal channels and streams do not stay what they are")
PY
cd "$work"
"$work/venv/bin/python" dither.py
