import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from jepa_speech.batches.batch_plan import Plan, bucket_lengths
from jepa_speech.batches.buckets import better_buckets, suggest_buckets
from jepa_speech.errors import UsageError
from jepa_speech.features.grid import HOP

DURATIONS = Path(__file__).parents[2] / "benchmarks" / "librispeech_durations.json"


@pytest.fixture(scope="module")
def librispeech() -> np.ndarray:
    """Samples of train-clean-100's utterances, each as the middle of its bin of 0.1 s."""
    counts = json.loads(DURATIONS.read_text(encoding="utf-8"))["counts"]
    return np.repeat(1600 * np.arange(len(counts)) + 800, counts)


def padded(samples: np.ndarray, ends: tuple[int, ...]) -> int:
    return int(np.array(ends)[np.searchsorted(ends, samples).clip(max=len(ends) - 1)].sum())


def test_they_pad_no_more_than_any_other_choice_of_as_many_ends():
    """Against all choices there are, of few durations."""
    frames = np.random.default_rng(0).choice([20, 31, 45, 46, 70, 99, 120], 500)
    for count in (1, 2, 3, 4):
        found = tuple(round(s * 50) for s in suggest_buckets(HOP * frames, count))
        assert len(found) == count and found[-1] == 120
        best = min(padded(frames, (*ends, 120)) for ends in combinations([20, 31, 45, 46, 70, 99], count - 1))
        assert padded(frames, found) == best
    assert len(suggest_buckets(HOP * frames, 20)) == 7


def test_a_recording_of_a_suggested_length_fits_its_bucket():
    samples = np.full(10, 12_345)
    assert bucket_lengths(suggest_buckets(samples, 3)).tolist() == [12_345 // HOP * HOP + HOP + 80]


def test_librispeech_wastes_less_than_a_tenth(librispeech):
    assert len(librispeech) == 28_539 and librispeech.sum() / 16_000 / 3600 == pytest.approx(100.6, abs=0.3)
    default = Plan(librispeech, (5.0, 10.0, 15.0), 480.0, seed=0)
    assert default.padding_waste() < 0.1
    kept = np.minimum(librispeech, default.bucket_samples[-1]).sum() / librispeech.sum()
    assert kept > 0.97  # of the audio; the rest is cropped, other parts in each epoch
    whole = default.with_buckets(suggest_buckets(librispeech, 5))
    assert whole.padding_waste() < 0.1
    assert np.minimum(librispeech, whole.bucket_samples[-1]).sum() / librispeech.sum() > 0.999


def test_better_buckets_are_the_fewest_that_pad_little_enough(librispeech):
    one = Plan(librispeech, (25.0,), 480.0, seed=0)
    buckets, waste = better_buckets(one, most=6)
    assert len(buckets) == 5 and waste == one.with_buckets(buckets).padding_waste() < 0.1
    assert better_buckets(one.with_buckets(buckets), most=6) is None
    buckets, waste = better_buckets(one, most=2)
    assert len(buckets) == 2 and 0.1 < waste < one.padding_waste()


def test_nothing_is_suggested_for_nothing():
    with pytest.raises(UsageError, match="at least 1"):
        suggest_buckets(np.zeros(0, int), 3)
