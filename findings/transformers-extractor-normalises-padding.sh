#!/usr/bin/env bash
# transformers 5.24.0: Wav2Vec2FeatureExtractor, padded batches without an attention mask.
#
# One would guess that each recording of a batch gets mean 0 and variance 1 and is then padded with zeros, whatever stands
# beside it. The documentation says of models with group norm (wav2vec2-base and others) that input_values are to be
# "padded with 0" and no attention_mask is to be passed; return_attention_mask=False is the default of the class.
#
# Seen: without an attention mask, recordings are padded first, and mean and variance are those of the padded row. So the
# same recording has other values in another batch: beside one of three times its length it is 1.6 times as loud as alone.
# If it has an offset (mean 0.1 at a deviation of 0.2), its samples have mean 0.54 and the padding is not 0 but -0.27, with a
# step where it begins. With return_attention_mask=True all is as one would guess.
#
# What to do: run such models on one recording at a time, or ask for the mask and pass only input_values to the model.
# Model cards of jepa_speech say so, and its S3PRL upstream does it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0 numpy==2.4.6

cat >"$work/padded.py" <<'PY'
import numpy as np
import transformers
from transformers import Wav2Vec2FeatureExtractor

assert transformers.__version__ == "5.24.0", transformers.__version__
random = np.random.default_rng(0)
short, long = (random.normal(0.1, 0.2, 16_000 * seconds).astype(np.float32) for seconds in (1, 3))


def extracted(waves, **options):
    """input_values of the short recording, its padding included."""
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, **options)
    return extractor(waves, sampling_rate=16_000, padding=True, return_tensors="np").input_values[0]


def shown(what, row):
    own, padding = row[: len(short)], row[len(short) :]
    print(f"{what}: mean {own.mean():.2f}, deviation {own.std():.2f}, padding {padding[:1]}")
    return own, padding


alone, _ = shown("alone", extracted([short]))
masked, zeros = shown("beside one of 3 s, with return_attention_mask=True", extracted([short, long], return_attention_mask=True))
assert np.abs(masked - alone).max() < 1e-5 and not zeros.any()
assert Wav2Vec2FeatureExtractor().return_attention_mask is False
other, padding = shown("beside one of 3 s, as is the default", extracted([short, long]))
assert other.std() > 1.5 * alone.std(), "the level is the same in every batch now"
assert other.mean() > 0.5 and padding.max() < -0.25, "padding is 0 now"
print("seen: mean and variance include the padding, so a recording's values depend on its batch")
PY
cd "$work"
"$work/venv/bin/python" padded.py
