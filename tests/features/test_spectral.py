import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from jepa_speech.errors import UsageError
from jepa_speech.features import grid, kaldi, spectral
from jepa_speech.platform import written_for


@pytest.fixture(scope="module")
def audio():
    """A voice-like second: a swept harmonic tone in noise that fades to near silence, at level 1."""
    time = np.arange(grid.SAMPLE_RATE) / grid.SAMPLE_RATE
    phase = 2 * np.pi * (120 * time + 30 * time**2)
    wave = sum(np.sin(n * phase) / n for n in range(1, 20))
    wave = (wave + 0.1 * np.random.default_rng(0).standard_normal(time.size)) * np.exp(-8 * time)
    return (wave / np.sqrt(np.mean(wave**2))).astype(np.float32)


def librosa_log_mel(audio, mels, hop=320):
    power = np.abs(librosa.stft(audio.astype(np.float64), n_fft=400, hop_length=hop, window="hann", center=False)) ** 2
    filters = librosa.filters.mel(sr=16_000, n_fft=400, n_mels=mels, htk=True, norm=None, dtype=np.float64)
    return np.log(filters @ power + 1e-6)


def test_log_mel_is_librosas(audio):
    ours = np.asarray(spectral.log_mel(audio))
    assert ours.shape == (grid.frames(audio.size), 80)
    np.testing.assert_allclose(ours, librosa_log_mel(audio, 80).T, atol=1e-4)


@pytest.mark.parametrize(("features", "atol"), [(spectral.log_mel, 1e-4), (kaldi.filter_bank, 1e-3)])
def test_on_a_tpu_the_spectrum_is_one_product_and_the_same(features, atol, audio):
    def program():
        return str(jax.make_jaxpr(lambda x: features(x))(audio))  # a new function, which jax has not traced yet

    with written_for("tpu"):
        got, product = features(audio), program()
    assert "fft" not in product and "fft" in program()
    np.testing.assert_allclose(got, features(audio), atol=atol)


def librosa_mfcc(audio, hop=320, frames=None):
    cepstra = librosa.feature.mfcc(S=librosa_log_mel(audio, 23, hop), n_mfcc=13, dct_type=2, norm="ortho")[:, :frames]
    deltas = [librosa.feature.delta(cepstra, width=9, order=order, mode="nearest") for order in (1, 2)]
    return np.concatenate([cepstra, *deltas]).T


def test_mfcc_is_librosas(audio):
    np.testing.assert_allclose(np.asarray(spectral.mfcc(audio)), librosa_mfcc(audio), atol=1e-4)


def check_mfcc100(features, audio):
    """At 100 Hz, deltas too, then thinned; whether or not a frame lies beyond the grid's last."""
    for length in (audio.size, audio.size - 170):
        last = 2 * grid.frames(length) - 1
        np.testing.assert_allclose(
            np.asarray(features(audio[:length])), librosa_mfcc(audio[:length], 160, last)[::2], atol=1e-4
        )


def test_mfcc100_is_librosas_at_100_hz(audio):
    check_mfcc100(spectral.mfcc100, audio)
    with pytest.raises(AssertionError):
        check_mfcc100(spectral.mfcc, audio)  # deltas over frames of the grid


@pytest.mark.parametrize("kind", spectral.DIMS)
def test_padding_is_not_seen(audio, kind):
    length = 7_000
    padded = np.stack([np.where(np.arange(audio.size) < length, audio, 0), np.zeros_like(audio), audio])
    features = spectral.extract(kind, padded, jnp.array([length, 0, audio.size]))
    alone = spectral.extract(kind, audio[:length])
    np.testing.assert_allclose(features[0, : len(alone)], alone, atol=1e-5)
    np.testing.assert_allclose(features[2], spectral.extract(kind, audio), atol=1e-5)
    assert np.isfinite(features).all()


@pytest.mark.parametrize("kind", spectral.DIMS)
def test_a_crop_has_the_features_of_the_whole(audio, kind):
    first, count = 11, 25
    crop = spectral.extract(kind, audio[first * grid.HOP :][: grid.samples(count)])
    edge = spectral.delta_edge(kind)
    whole = spectral.extract(kind, audio)[first : first + count]
    np.testing.assert_allclose(crop[edge : count - edge], whole[edge : count - edge], atol=1e-4)


def check_alignment(features):
    """Property 8: the loudest frame is one whose 400 samples hold the click. The first cepstrum is the loudness."""
    for sample in (400, 5_000, 5_119, 12_345):
        audio = np.zeros(grid.SAMPLE_RATE, np.float32)
        audio[sample] = 1
        loudest = int(np.argmax(np.asarray(features(audio))))
        assert loudest * grid.HOP <= sample < loudest * grid.HOP + grid.WINDOW


def centred(audio):
    """As the released code has it: frame t sees [320 t - 200, 320 t + 200)."""
    return spectral.log_mel(np.pad(audio, grid.WINDOW // 2))


def off_the_grid(audio):
    """100 Hz frames thinned from the second on: frame t sees [320 t + 160, 320 t + 560)."""
    return spectral.mfcc100(audio[..., grid.HOP // 2 :])


def test_a_click_falls_into_the_frame_that_holds_it():
    check_alignment(lambda audio: spectral.log_mel(audio).sum(-1))
    for kind in ("mfcc", "mfcc100"):
        check_alignment(lambda audio, kind=kind: spectral.extract(kind, audio)[..., 0])
    with pytest.raises(AssertionError):
        check_alignment(lambda audio: centred(audio).sum(-1))
    with pytest.raises(AssertionError):
        check_alignment(lambda audio: off_the_grid(audio)[..., 0])


@pytest.mark.parametrize("kind", spectral.DIMS)
def test_a_frame_sees_its_own_window_and_what_deltas_reach(audio, kind):
    """Frame by frame: a click at the first or last sample of a window moves that frame, one beside it does not."""
    edge, t = spectral.delta_edge(kind), 20
    before, after = (t - edge) * grid.HOP, (t + edge) * grid.HOP + grid.WINDOW
    frame = np.asarray(spectral.extract(kind, audio))[t]
    for sample in (before - 1, before + 5, after - 5, after):
        clicked = audio.copy()
        clicked[sample] += 10
        moved = np.abs(np.asarray(spectral.extract(kind, clicked))[t] - frame).max()
        assert (moved > 1e-5) == (before <= sample < after), sample


@pytest.mark.parametrize(("kind", "dim"), spectral.DIMS.items())
def test_shorter_than_a_frame_gives_no_frames(kind, dim):
    assert spectral.extract(kind, np.zeros((2, 399), np.float32), jnp.array([399, 10])).shape == (2, 0, dim)


def test_unknown_kind_is_refused():
    with pytest.raises(UsageError, match="plp"):
        spectral.extract("plp", np.zeros(400, np.float32))
