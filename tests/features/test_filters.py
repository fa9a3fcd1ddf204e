import librosa
import numpy as np
import scipy.fft

from jepa_speech.features.filters import band_pass, dct_basis, gammatone_bank, hann, mel_bank


def response(kernel: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    time = np.arange(kernel.size) - kernel.size // 2
    return np.abs(np.exp(-2j * np.pi * np.outer(frequencies / 16_000, time)) @ kernel)


def test_a_band_pass_is_the_difference_of_two_low_passes():
    low, high = np.array([80.0, 1000.0, 7900.0]), np.array([180.0, 3500.0, 8000.0])
    time = np.arange(-125, 126) / 16_000
    window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(251) / 250)
    difference = 2 * high[:, None] * np.sinc(2 * np.outer(high, time)) - 2 * low[:, None] * np.sinc(
        2 * np.outer(low, time)
    )
    expected = difference / (2 * (high - low)[:, None]) * window
    np.testing.assert_allclose(band_pass(low, high, 251), expected, atol=1e-5)


def test_the_pass_band_is_flat_and_the_rest_is_stopped():
    """Hamming's ripple is 0.2% and its stop band -53 dB; its transition is 3.3 / N wide, 210 Hz."""
    gain = 16_000 / (2 * 2000)
    kernel = np.asarray(band_pass(np.array([1000.0]), np.array([3000.0]), 251))[0] / gain
    np.testing.assert_allclose(response(kernel, np.linspace(1120, 2880, 50)), 1, atol=4e-3)
    assert response(kernel, np.concatenate([np.linspace(0, 880, 30), np.linspace(3120, 8000, 80)])).max() < 4e-3


def test_windows_and_mel_banks_are_librosas_to_the_bit():
    """Stored anchors and labels were computed with these constants."""
    for size in (400, 512, 1024, 2048):
        np.testing.assert_array_equal(hann(size), librosa.filters.get_window("hann", size).astype(np.float32))
    for bands, n_fft in ((80, 400), (23, 400), (40, 512), (40, 1024), (40, 2048)):
        expected = librosa.filters.mel(sr=16_000, n_fft=n_fft, n_mels=bands, htk=True, norm=None)
        np.testing.assert_array_equal(mel_bank(bands, n_fft), expected.T)


def test_the_cosine_transform_is_scipys():
    for bands, count in ((23, 13), (40, 20)):
        expected = scipy.fft.dct(np.eye(bands), norm="ortho")[:, :count]
        np.testing.assert_allclose(dct_basis(bands, count), expected, rtol=1e-7, atol=1e-15)


def test_a_gammatone_is_the_spectrum_of_its_impulse_response():
    """t³ exp(-2π b t) cos(2π f_c t), far from 0 Hz where its mirror image adds nothing."""
    bank = gammatone_bank(40, 4096)
    bins = np.arange(2049) * 16_000 / 4096
    centre = bins[bank[:, 20].argmax()]
    scale = 24.7 * 9.265
    exact = np.exp(np.log(500 + scale) + 20 / 40 * np.log((8000 + scale) / (500 + scale))) - scale
    assert abs(centre - exact) < 16_000 / 4096
    time = np.arange(4096) / 16_000
    tone = time**3 * np.exp(-2 * np.pi * 1.019 * (24.7 + exact / 9.265) * time) * np.cos(2 * np.pi * exact * time)
    power = np.abs(np.fft.rfft(tone)) ** 2
    np.testing.assert_allclose(bank[:, 20], power / power.max(), atol=2e-3)
