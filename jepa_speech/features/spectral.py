"""Log-mel and MFCC on the frame grid, in float32.

Both are given audio that is already divided by its utterance's level, so that they do not change with gain.

Log-mel: periodic Hann window of 400, |rfft|², 80 triangular HTK mel filters from 0 to 8000 Hz without
normalisation, log(x + 1e-6). As `torchaudio.transforms.MelSpectrogram` has it, but without centring.

MFCC: the same with 23 filters, then the first 13 coefficients (c0 among them) of the orthonormal DCT-II,
followed by their Δ and ΔΔ: the slope and the curvature of the line and the parabola fitted to 9 frames
(`librosa.feature.delta`, width 9, mode "nearest").

mfcc100: the same computed 100 times a second, deltas included, of which every second frame is kept: frame t still has
the window of the grid's frame t. What HuBERT's first labels are made of (arXiv 2106.07447, section IV-B).
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.errors import UsageError
from jepa_speech.features import grid

DIMS = {"logmel": 80, "mfcc": 39, "mfcc100": 39}
DELTA_EDGE = 4  # frames at each side that deltas see, at the rate they are computed at

_FLOOR = 1e-6
_MFCC_MELS, _CEPSTRA = 23, 13
_HIGHEST = jax.lax.Precision.HIGHEST  # TF32 or bfloat16 passes move labels


def extract(kind: str, audio: jax.Array, lengths: jax.Array | None = None) -> jax.Array:
    """Features of standardised audio: (…, S) -> (…, T, DIMS[kind]).

    `lengths` (…) counts the valid samples of padded rows: no frame that lies within them sees the padding.
    Raises UsageError for an unknown kind.
    """
    if kind == "logmel":
        return log_mel(audio)
    if kind == "mfcc":
        return mfcc(audio, lengths)
    if kind == "mfcc100":
        return mfcc100(audio, lengths)
    raise UsageError(f"unknown features {kind!r}: choose one of {', '.join(DIMS)}")


def delta_edge(kind: str) -> int:
    """Frames of the grid at each edge of a crop whose deltas would have seen beyond it."""
    return {"mfcc": DELTA_EDGE, "mfcc100": DELTA_EDGE // 2}.get(kind, 0)


def log_mel(audio: jax.Array) -> jax.Array:
    """(…, S) -> (…, T, 80), natural logarithm."""
    return _log_mel(audio, DIMS["logmel"])


def mfcc(audio: jax.Array, lengths: jax.Array | None = None) -> jax.Array:
    """(…, S) -> (…, T, 39): 13 cepstra, their Δ, their ΔΔ. `lengths` as in `extract`."""
    count = None if lengths is None else grid.frames(lengths)
    return _with_deltas(_cepstra(audio), count)


def mfcc100(audio: jax.Array, lengths: jax.Array | None = None) -> jax.Array:
    """(…, S) -> (…, T, 39): every second frame of MFCCs at 100 Hz. `lengths` as in `extract`.

    Of the frames between those of the grid the last one is left out where it lies beyond the grid's last, so that
    a recording and its crop on the grid have the same features.
    """
    even = _cepstra(audio)  # (…, T, 13)
    odd = _cepstra(audio[..., grid.HOP // 2 :])[..., : max(even.shape[-2] - 1, 0), :]  # (…, T - 1, 13), in between
    odd = jnp.pad(odd, [(0, 0)] * (odd.ndim - 2) + [(0, even.shape[-2] - odd.shape[-2]), (0, 0)])
    both = jnp.stack([even, odd], axis=-2).reshape(*even.shape[:-2], -1, _CEPSTRA)  # (…, 2T, 13)
    count = grid.frames(audio.shape[-1] if lengths is None else lengths)
    return _with_deltas(both, 2 * count - 1)[..., ::2, :]


def _cepstra(audio: jax.Array) -> jax.Array:
    return jnp.matmul(_log_mel(audio, _MFCC_MELS), _dct(), precision=_HIGHEST)  # (…, T, 13)


def _with_deltas(cepstra: jax.Array, count: jax.Array | int | None) -> jax.Array:
    """(…, T, 13) -> (…, T, 39). Beyond the `count` valid frames stand copies of the last, as beyond an edge."""
    if count is not None and cepstra.shape[-2]:
        last = jnp.maximum(jnp.asarray(count) - 1, 0)[..., None]  # (…, 1)
        index = jnp.minimum(jnp.arange(cepstra.shape[-2]), last)  # (…, T)
        index = jnp.broadcast_to(index, cepstra.shape[:-1])[..., None]
        cepstra = jnp.take_along_axis(cepstra, index, axis=-2)
    return jnp.concatenate([cepstra, *(_delta(cepstra, weights) for weights in _delta_weights())], axis=-1)


def _log_mel(audio: jax.Array, mels: int) -> jax.Array:
    spectrum = jnp.fft.rfft(_windows(audio.astype(jnp.float32)) * _hann())  # (…, T, 201)
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    return jnp.log(jnp.matmul(power, mel_filters(mels), precision=_HIGHEST) + _FLOOR)


def _windows(audio: jax.Array) -> jax.Array:
    """(…, S) -> (…, T, 400). Two reshapes, since a gather of overlapping windows is slow on accelerators."""
    hop, overlap = grid.HOP, grid.WINDOW - grid.HOP
    count = grid.frames(audio.shape[-1])
    blocks = (*audio.shape[:-1], count, hop)
    head = audio[..., : count * hop].reshape(blocks)
    tail = audio[..., hop : grid.samples(count)]
    tail = jnp.pad(tail, [(0, 0)] * (audio.ndim - 1) + [(0, count * hop - tail.shape[-1])]).reshape(blocks)
    return jnp.concatenate([head, tail[..., :overlap]], axis=-1)


def _delta(features: jax.Array, weights: np.ndarray) -> jax.Array:
    count = features.shape[-2]
    if count == 0:
        return features
    edges = [(0, 0)] * (features.ndim - 2) + [(DELTA_EDGE, DELTA_EDGE), (0, 0)]
    padded = jnp.pad(features, edges, mode="edge")
    return sum(weight * padded[..., t : t + count, :] for t, weight in enumerate(weights))


@lru_cache
def _hann() -> np.ndarray:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(grid.WINDOW) / grid.WINDOW)).astype(np.float32)


@lru_cache
def mel_filters(mels: int) -> np.ndarray:
    """Triangular filters with corners evenly spaced in HTK mel, 2595 log10(1 + f / 700): (201, mels)."""
    top = 2595 * np.log10(1 + grid.SAMPLE_RATE / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, mels + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(grid.WINDOW, 1 / grid.SAMPLE_RATE)[:, None]
    rising = (bins - corners[:-2]) / np.diff(corners)[:-1]
    falling = (corners[2:] - bins) / np.diff(corners)[1:]
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


@lru_cache
def _dct() -> np.ndarray:
    band, order = np.arange(_MFCC_MELS)[:, None], np.arange(_CEPSTRA)
    basis = np.cos(np.pi * order * (2 * band + 1) / (2 * _MFCC_MELS)) * np.sqrt(2 / _MFCC_MELS)
    basis[:, 0] /= np.sqrt(2)
    return basis.astype(np.float32)  # (23, 13)


@lru_cache
def _delta_weights() -> tuple[np.ndarray, np.ndarray]:
    """Least squares over the frames -4..4: the slope of a line, the second derivative of a parabola."""
    time = np.arange(-DELTA_EDGE, DELTA_EDGE + 1, dtype=np.float64)
    bow = time**2 - np.mean(time**2)
    slope, curvature = time / np.sum(time**2), 2 * bow / np.sum(bow**2)
    return slope.astype(np.float32), curvature.astype(np.float32)
