"""Log-mel and MFCC on the frame grid, in float32.

Both take audio that is divided by its utterance's level, so that they do not depend on gain.

Log-mel: periodic Hann window of 400, |rfft|², 80 triangular HTK mel filters from 0 to 8000 Hz without
normalisation, log(x + 1e-6). The same as `torchaudio.transforms.MelSpectrogram` without centring.

MFCC: the same with 23 filters, then the first 13 coefficients (c0 among them) of the orthonormal DCT-II,
followed by their Δ and ΔΔ: the slope and the curvature of the line and the parabola fitted to 9 frames
(`librosa.feature.delta`, width 9, mode "nearest").

pca: log-mel; an anchor fitted to it stores the rotation that whitens the features (`anchors/anchor.py`).

mfcc100: MFCC with deltas at 100 frames per second, of which every second frame is kept, so that frame t has the window
of the grid's frame t. HuBERT's first labels are fitted to these features (arXiv 2106.07447, section IV-B).
"""

import jax
import jax.numpy as jnp

from jepa_speech.errors import UsageError
from jepa_speech.features import grid
from jepa_speech.features.deltas import REACH, with_deltas
from jepa_speech.features.filters import dct_basis, fourier_basis, hann, mel_bank
from jepa_speech.platform import on_tpu

DIMS = {"logmel": 80, "pca": 80, "mfcc": 39, "mfcc100": 39}

_FLOOR = 1e-6
_MFCC_MELS, _CEPSTRA = 23, 13
_HIGHEST = jax.lax.Precision.HIGHEST  # TF32 or bfloat16 passes move labels


def extract(kind: str, audio: jax.Array, lengths: jax.Array | None = None) -> jax.Array:
    """Returns features of standardised audio: (…, S) -> (…, T, DIMS[kind]).

    lengths: the valid samples (…) of padded rows; frames within them do not depend on the padding.
    Raises UsageError for an unknown kind.
    """
    if kind in ("logmel", "pca"):
        return log_mel(audio)
    if kind == "mfcc":
        return mfcc(audio, lengths)
    if kind == "mfcc100":
        return mfcc100(audio, lengths)
    raise UsageError(f"unknown features {kind!r}: choose one of {', '.join(DIMS)}")


def delta_edge(kind: str) -> int:
    """Returns how many frames at each edge of a crop have deltas that reach beyond the crop."""
    return {"mfcc": REACH, "mfcc100": REACH // 2}.get(kind, 0)


def log_mel(audio: jax.Array) -> jax.Array:
    """Returns natural logarithms of 80 mel bands: (…, S) -> (…, T, 80)."""
    return _log_mel(audio, DIMS["logmel"])


def mfcc(audio: jax.Array, lengths: jax.Array | None = None) -> jax.Array:
    """Returns 13 cepstra, their Δ and their ΔΔ: (…, S) -> (…, T, 39). lengths: as in `extract`."""
    return with_deltas(_cepstra(audio), grid.frames(audio.shape[-1]) if lengths is None else grid.frames(lengths))


def mfcc100(audio: jax.Array, lengths: jax.Array | None = None) -> jax.Array:
    """Returns every second frame of MFCCs at 100 Hz: (…, S) -> (…, T, 39). lengths: as in `extract`.

    A frame at 100 Hz after the grid's last frame is dropped, so that a recording and its crop on the grid have the same
    features.
    """
    even = _cepstra(audio)  # (…, T, 13)
    odd = _cepstra(audio[..., grid.HOP // 2 :])[..., : max(even.shape[-2] - 1, 0), :]  # (…, T - 1, 13), in between
    odd = jnp.pad(odd, [(0, 0)] * (odd.ndim - 2) + [(0, even.shape[-2] - odd.shape[-2]), (0, 0)])
    both = jnp.stack([even, odd], axis=-2).reshape(*even.shape[:-2], -1, _CEPSTRA)  # (…, 2T, 13)
    count = grid.frames(audio.shape[-1]) if lengths is None else grid.frames(lengths)
    return with_deltas(both, 2 * count - 1)[..., ::2, :]


def _cepstra(audio: jax.Array) -> jax.Array:
    return jnp.matmul(_log_mel(audio, _MFCC_MELS), dct_basis(_MFCC_MELS, _CEPSTRA), precision=_HIGHEST)  # (…, T, 13)


def _log_mel(audio: jax.Array, mels: int) -> jax.Array:
    power = power_spectrum(windows(audio.astype(jnp.float32)) * hann(grid.WINDOW), grid.WINDOW)  # (…, T, 201)
    return jnp.log(jnp.matmul(power, mel_bank(mels, grid.WINDOW), precision=_HIGHEST) + _FLOOR)


def power_spectrum(x: jax.Array, size: int) -> jax.Array:
    """Returns |rfft|² over `size` points, x filled up with zeros: (…, N) -> (…, size / 2 + 1), N <= size.

    On a TPU as one product with the cosines and sines: its compiler takes three times as long for an FFT of 400 points
    and writes twice as large a program (libtpu 0.0.42.1).
    """
    if on_tpu():
        parts = jnp.matmul(x, fourier_basis(x.shape[-1], size), precision=_HIGHEST)
        real, imaginary = jnp.split(parts, 2, axis=-1)
    else:
        spectrum = jnp.fft.rfft(x, size)
        real, imaginary = spectrum.real, spectrum.imag
    return jnp.square(real) + jnp.square(imaginary)


def windows(audio: jax.Array) -> jax.Array:
    """Returns the windows of the grid's frames: (…, S) -> (…, T, 400).

    They are two reshapes, because a gather of overlapping windows is slow on accelerators.
    """
    hop, overlap = grid.HOP, grid.WINDOW - grid.HOP
    count = grid.frames(audio.shape[-1])
    blocks = (*audio.shape[:-1], count, hop)
    head = audio[..., : count * hop].reshape(blocks)
    tail = audio[..., hop : grid.samples(count)]
    tail = jnp.pad(tail, [(0, 0)] * (audio.ndim - 1) + [(0, count * hop - tail.shape[-1])]).reshape(blocks)
    return jnp.concatenate([head, tail[..., :overlap]], axis=-1)
