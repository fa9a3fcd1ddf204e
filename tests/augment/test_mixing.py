import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_speech.augment.mixing import MixingConfig, student_view
from jepa_speech.errors import UsageError

B, S = 64, 4000


@pytest.fixture(scope="module")
def waves():
    clean, other = np.random.default_rng(0).normal(size=(2, B, S)).astype(np.float32)
    lengths = np.where(np.arange(B) % 2, S, 2500)
    other_lengths = np.where(np.arange(B) % 3, S, 1000)
    clean *= np.arange(S) < lengths[:, None]
    other *= np.arange(S) < other_lengths[:, None]
    keys = jax.random.split(jax.random.key(0), B)
    return keys, jnp.asarray(clean), jnp.asarray(lengths), jnp.asarray(other), jnp.asarray(other_lengths)


def test_noise_has_the_asked_ratio_over_valid_samples(waves):
    _, clean, lengths, *_ = waves
    config = MixingConfig(noise=1.0, noise_db=(6.0, 6.0))
    view = student_view(*waves, config)
    gain = 10 ** (-6 / 20)
    added = np.asarray(view * np.sqrt(1 + gain**2) - clean)
    for row in range(B):
        n = int(lengths[row])
        power = np.square(added[row, :n]).mean()
        assert power == pytest.approx(gain**2, rel=0.15)  # noise at level 1: its power over a crop varies a little
        assert not added[row, n:].any()


def rounded_mode(values: np.ndarray) -> np.ndarray:
    """The values that share the commonest rounding."""
    rounded = values.round(4)
    found, counts = np.unique(rounded, return_counts=True)
    return values[rounded == found[counts.argmax()]]


def test_overlap_is_at_most_half_and_within_the_clip(waves):
    _, clean, lengths, *_ = waves
    view = student_view(*waves, MixingConfig(utterance=1.0))
    ratios = np.asarray(view) / np.where(clean, clean, 1)
    # Untouched samples share one ratio, and at least half of a row is untouched: the densest ratio is the volume.
    scale = np.array([np.median(rounded_mode(row[:length])) for row, length in zip(ratios, lengths, strict=True)])
    touched = np.abs(np.asarray(view) / scale[:, None] - np.asarray(clean)) > 1e-4
    assert (touched.sum(1) <= np.asarray(lengths) // 2 + 1).all()
    assert touched.any(1).mean() > 0.95
    assert not (touched & (np.arange(S) >= np.asarray(lengths)[:, None])).any()


def test_probabilities(waves):
    config = MixingConfig(utterance=0.25, noise=0.25)
    changed = (np.asarray(student_view(*waves, config)) != np.asarray(waves[1])).any(1)
    assert 0.3 < changed.mean() < 0.7
    assert not MixingConfig().active


def test_without_another_recording_nothing_is_added(waves):
    keys, clean, lengths, other, _ = waves
    view = student_view(keys, clean, lengths, other, jnp.zeros(B, int), MixingConfig(noise=1.0))
    np.testing.assert_array_equal(view, clean)


def test_a_row_does_not_depend_on_its_batch(waves):
    config = MixingConfig(utterance=0.5, noise=0.5)
    whole = student_view(*waves, config)
    part = student_view(*(x[3:5] for x in waves), config)
    np.testing.assert_array_equal(whole[3:5], part)


def test_nonsense_is_refused():
    with pytest.raises(UsageError):
        MixingConfig(utterance=0.7, noise=0.6)
