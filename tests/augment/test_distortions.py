import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_speech.augment.distortions import CLIPS, NOISE_DB, T60, VOICE_DB, DistortionConfig, convolve, distort, reverb
from jepa_speech.errors import UsageError

B, S = 16, 8000
NAMES = ("reverb", "voice", "noise", "clip", "chop", "downsample", "band_drop")


@pytest.fixture(scope="module")
def waves():
    clean, other = np.random.default_rng(0).normal(size=(2, B, S)).astype(np.float32)
    lengths, other_lengths = np.where(np.arange(B) % 2, S, 6000), np.where(np.arange(B) % 3, S, 1000)
    clean *= np.arange(S) < lengths[:, None]
    other *= np.arange(S) < other_lengths[:, None]
    return jax.random.split(jax.random.key(0), B), clean, lengths, other, other_lengths


@pytest.fixture(scope="module")
def views(waves):
    """Each distortion alone, on every row."""
    run = jax.jit(lambda *args: {name: distort(*args, DistortionConfig(**{name: 1.0})) for name in NAMES})
    return jax.device_get(run(*waves))


def spectrum(rows: np.ndarray, bands: int = 40) -> np.ndarray:
    """Power in bands of equal width, 200 Hz: (..., S) -> (..., bands)."""
    power = np.abs(np.fft.rfft(rows)) ** 2
    return power[..., 1:].reshape(*rows.shape[:-1], bands, -1).mean(-1)


@pytest.mark.parametrize("name", NAMES)
def test_every_distortion_changes_its_row_and_no_padding(waves, views, name):
    _, clean, lengths, _, _ = waves
    outside = np.arange(S) >= lengths[:, None]
    assert (views[name] != clean).any(1).all() and not views[name][outside].any()
    assert np.isfinite(views[name]).all()


@pytest.mark.parametrize(("name", "ratios"), [("voice", VOICE_DB), ("noise", NOISE_DB)])
def test_ratios_are_those_of_the_list(waves, views, name, ratios):
    clean = waves[1]
    added = views[name] - clean
    got = 10 * np.log10(np.square(clean).sum(1) / np.square(added).sum(1))
    np.testing.assert_allclose(np.abs(got[:, None] - ratios).min(1), 0, atol=0.02)
    assert len(set(got.round().tolist())) > 1


def test_noise_is_white_to_brown(waves, views):
    added = spectrum((views["noise"] - waves[1])[1::2])
    slope = np.polyfit(np.log(np.arange(1, 41)), np.log(added).T, 1)[0]
    assert slope.min() < -1.2 and slope.max() > -0.8 and (slope > -2.3).all() and (slope < 0.3).all()


def test_clipping_keeps_a_share_of_the_extremes(waves, views):
    factor = views["clip"].max(1) / waves[1].max(1)
    np.testing.assert_allclose(np.abs(factor[:, None] - CLIPS).min(1), 0, atol=1e-6)


def test_chops_are_short_and_leave_the_rest(waves, views):
    clean = waves[1]
    gone = (views["chop"] == 0) & (clean != 0)
    np.testing.assert_array_equal(views["chop"][~gone], clean[~gone])
    assert (gone.sum(1) > 0).all() and gone.sum(1).max() < 0.6 * 16_000
    assert (np.abs(np.diff(gone, axis=1)).sum(1) <= 4).all()


def test_downsampling_leaves_nothing_above_4_kilohertz(waves, views):
    rows = slice(1, None, 2)  # full rows: a cut end is no band-limited signal
    change = 10 * np.log10(spectrum(views["downsample"][rows]) / spectrum(waves[1][rows]))
    assert change[:, 22:].max() < -30 and change[:, :19].min() > 2.5  # the same energy in half of the band


def test_a_dropped_band_is_gone_and_no_other(waves, views):
    rows = slice(1, None, 2)
    change = 10 * np.log10(spectrum(views["band_drop"][rows], 80) / spectrum(waves[1][rows], 80))
    for row in change:
        gone = np.flatnonzero(row < -15)  # bands of 100 Hz
        assert 1 <= len(gone) <= 20 and gone.max() - gone.min() == len(gone) - 1
        kept = (np.arange(80) < gone.min() - 3) | (np.arange(80) > gone.max() + 3)
        assert (row[kept] > -0.5).all()


@pytest.mark.parametrize("name", ["reverb", "downsample", "band_drop"])
def test_rooms_and_filters_keep_the_energy(waves, views, name):
    full = slice(1, None, 2)
    np.testing.assert_allclose(np.square(views[name][full]).sum(1), np.square(waves[1][full]).sum(1), rtol=1e-3)


def test_a_room_decays_as_its_time_says():
    """Slope of the energy that is still to come (Schroeder 1965), between 5 and 25 dB."""
    click = jnp.zeros(8000).at[0].set(1.0)
    for response in jax.device_get(
        jax.jit(jax.vmap(lambda key: reverb(key, click)))(jax.random.split(jax.random.key(1), 8))
    ):
        left = np.cumsum(np.square(response[1:])[::-1])[::-1]
        decibels = 10 * np.log10(left / left[0])
        part = (decibels < -5) & (decibels > -25)
        slope = np.polyfit(np.flatnonzero(part) / 16_000, decibels[part], 1)[0]
        assert 0.8 * T60[0] < -60 / slope < 1.2 * T60[1]
        direct = 10 * np.log10(response[0] ** 2 / left[0])
        assert -0.01 < direct < 10.01


def test_convolution_is_numpys():
    x, kernel = np.random.default_rng(1).normal(size=100), np.random.default_rng(2).normal(size=11)
    got = convolve(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32), 5)
    np.testing.assert_allclose(got, np.convolve(x, kernel, mode="same"), atol=1e-5)


def test_rows_depend_on_their_keys_alone(waves):
    config = DistortionConfig(reverb=0.5, noise=0.5, clip=0.5)
    run = jax.jit(lambda *args: distort(*args, config))
    back = run(*(x[::-1] for x in waves))[::-1]
    got = run(*waves)
    np.testing.assert_allclose(got, back, atol=1e-6)
    changed = (np.asarray(got) != waves[1]).any(1)
    assert 0.5 < changed.mean() <= 1 and not changed.all()  # 7 of 8 on average


def test_probability_zero_is_the_identity(waves):
    np.testing.assert_array_equal(distort(*waves, DistortionConfig()), waves[1])


def test_a_lone_record_has_no_other_voice(waves):
    keys, clean, lengths, other, _ = waves
    got = distort(keys, clean, lengths, 0 * other, np.zeros(B, int), DistortionConfig(voice=1.0))
    np.testing.assert_array_equal(got, clean)


def test_a_probability_beyond_one_is_refused():
    with pytest.raises(UsageError, match=r"mixing\.chop"):
        DistortionConfig(chop=1.5)
