"""Log-mel and MFCC on the frame grid, in float32.

Both are given audio that is already divided by its utterance's level, so that they do not change with gain.

Log-mel: periodic Hann window of 400, |rfft|², 80 triangular HTK mel filters from 0 to 8000 Hz without
normalisation, log(x + 1e-6). As `torchaudio.transforms.MelSpectrogram` has it, but without centring.

MFCC: the same with 23 filters, then the first 13 coefficients (c0 among them) of the orthonormal DCT-II,
followed by their Δ and ΔΔ: the slope and the curvature of the line and the parabola fitted to 9 frames
(`librosa.feature.delta`, width 9, mode "nearest").

pca: log-mel as well; an anchor in it holds the rotation that whitens them (`anchors/anchor.py`).

mfcc100: the same computed 100 times a second, deltas included, of which every second frame is kept: frame t still has
the window of the grid's frame t. What HuBERT's first labels are made of (arXiv 2106.07447, section IV-B).
"""

import jax
import jax.numpy as jnp

from jepa_speech.errors import UsageError
from jepa_speech.features import grid
from jepa_speech.features.deltas import REACH, with_deltas
from jepa_speech.features.filters import dct_basis, hann, mel_bank

DIMS = {"logmel": 80, "pca": 80, "mfcc": 39, "mfcc100": 39}

_FLOOR = 1e-6
_MFCC_MELS, _CEPSTRA = 23, 13
_HIGHEST = jax.lax.Precision.HIGHEST  # TF32 or bfloat16 passes move labels


def extract(kind: str, audio: jax.Array, lengths: jax.Array | None = None) -> jax.Array:
    """Features of standardised audio: (…, S) -> (…, T, DIMS[kind]).

    `lengths` (…) counts the valid samples of padded rows: no frame that lies within them sees the padding.
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
    """Frames of the grid at each edge of a crop whose deltas would have seen beyond it."""
    return {"mfcc": REACH, "mfcc100": REACH // 2}.get(kind, 0)


def log_mel(audio: jax.Array) -> jax.Array:
    """(…, S) -> (…, T, 80), natural logarithm."""
    return _log_mel(audio, DIMS["logmel"])


def mfcc(audio: jax.Array, lengths: jax.Array | None = None) -> jax.Array:
    """(…, S) -> (…, T, 39): 13 cepstra, their Δ, their ΔΔ. `lengths` as in `extract`."""
    return with_deltas(_cepstra(audio), grid.frames(audio.shape[-1]) if lengths is None else grid.frames(lengths))


def mfcc100(audio: jax.Array, lengths: jax.Array | None = None) -> jax.Array:
    """(…, S) -> (…, T, 39): every second frame of MFCCs at 100 Hz. `lengths` as in `extract`.

    Of the frames between those of the grid the last one is left out where it lies beyond the grid's last, so that
    a recording and its crop on the grid have the same features.
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
    spectrum = jnp.fft.rfft(windows(audio.astype(jnp.float32)) * hann(grid.WINDOW))  # (…, T, 201)
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    return jnp.log(jnp.matmul(power, mel_bank(mels, grid.WINDOW), precision=_HIGHEST) + _FLOOR)


def windows(audio: jax.Array) -> jax.Array:
    """(…, S) -> (…, T, 400). Two reshapes, since a gather of overlapping windows is slow on accelerators."""
    hop, overlap = grid.HOP, grid.WINDOW - grid.HOP
    count = grid.frames(audio.shape[-1])
    blocks = (*audio.shape[:-1], count, hop)
    head = audio[..., : count * hop].reshape(blocks)
    tail = audio[..., hop : grid.samples(count)]
    tail = jnp.pad(tail, [(0, 0)] * (audio.ndim - 1) + [(0, count * hop - tail.shape[-1])]).reshape(blocks)
    return jnp.concatenate([head, tail[..., :overlap]], axis=-1)
