"""Plots. Every function returns a new Figure; none keeps state or opens a window."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import color_sequences, colormaps, rc_context
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from jepa_speech.features.grid import FRAME_RATE, SAMPLE_RATE

# Each colour means the same in every plot: the model, its targets, random labels, a second quantity.
MODEL, TARGET, RANDOM, SECOND = "#2f5d9b", "#e08a3c", "#9aa0a6", "#4b9a72"
KINDS = {"model": MODEL, "targets": TARGET, "random": RANDOM}
STYLE: Any = {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#5f6368",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e8eb",
    "legend.frameon": False,
}


BANDS = 64  # of the spectrogram
SHOWN = 4.0  # seconds of a spectrogram; with more, phone labels would be illegible
styled = rc_context(STYLE)  # the decorator of every plot


def canvas(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (9, 3.6), **kw: Any
) -> tuple[Figure, np.ndarray]:
    """Returns a figure and its axes (rows, columns)."""
    figure = Figure(figsize=size)
    return figure, figure.subplots(rows, columns, squeeze=False, **kw)


@styled
def clusters_over_time(
    wave: np.ndarray,
    labels: Mapping[str, np.ndarray],
    segments: Sequence[tuple[str, float, float]] | None = None,
) -> Figure:
    """Plots the spectrogram of the first seconds of a wave (S,) at 16 kHz, and below it a coloured stripe per labelling
    (T,).
    """
    frames = min(min(map(len, labels.values())), int(SHOWN * FRAME_RATE))
    seconds = frames / FRAME_RATE
    labels = {name: ids[:frames] for name, ids in labels.items()}
    heights = [5] + [0.7] * len(labels)
    figure, grid = canvas(
        len(heights), 1, (9, 3.4 + 0.5 * len(labels)), sharex=True, gridspec_kw={"height_ratios": heights}
    )
    top, stripes = grid[0, 0], grid[1:, 0]
    decibels, centres = mel_decibels(wave[: round(seconds * SAMPLE_RATE)])
    top.imshow(decibels, origin="lower", aspect="auto", cmap="magma", vmin=-60, extent=(0, seconds, 0, BANDS))
    ticks = range(BANDS // 8, BANDS, BANDS // 4)
    top.set_yticks([band + 0.5 for band in ticks], [f"{centres[band]:.0f}" for band in ticks])
    top.set_ylabel("frequency, Hz (mel scale)")
    for number, (label, start, end) in enumerate(segments or ()):
        if start < seconds:
            top.axvline(start, color="white", lw=0.4, alpha=0.6)
            centre, height = (start + min(end, seconds)) / 2, BANDS - 4 - 4 * (number % 2)
            top.text(centre, height, label, color="white", fontsize=7, ha="center", clip_on=True)
    top.set_title("Clusters over time (within a stripe, one colour is one cluster)")
    for axes, (name, ids) in zip(stripes, labels.items(), strict=True):
        axes.imshow(
            ids[None], aspect="auto", cmap=_shuffled_colours(), vmin=0, vmax=255, extent=(0, seconds, 0, 1),
            interpolation="nearest",
        )  # fmt: skip
        axes.set_yticks([0.5], [name])
        axes.tick_params(left=False)
    for axes in grid[:, 0]:
        axes.grid(False)
    grid[-1, 0].set_xlabel("time, s")
    return figure


def mel_decibels(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mel spectrogram (BANDS, T) of a wave (S,) at 16 kHz, in dB below its peak, at 100 frames per second,
    and the centres of its bands (BANDS,) in Hz.
    """
    import librosa  # takes seconds, and only this plot needs it

    power = librosa.feature.melspectrogram(
        y=np.asarray(wave, np.float32),
        sr=SAMPLE_RATE,
        n_fft=512,
        hop_length=SAMPLE_RATE // 100,
        n_mels=BANDS,
        htk=True,
    )
    centres = librosa.mel_frequencies(BANDS + 2, fmax=SAMPLE_RATE / 2, htk=True)[1:-1]
    return librosa.power_to_db(power, ref=np.max), centres


def _shuffled_colours() -> ListedColormap:
    """Returns 256 colours in random order, so that neighbouring ids are easy to distinguish."""
    colours = colormaps["turbo"](np.linspace(0.03, 0.97, 256))
    return ListedColormap(colours[np.random.default_rng(3).permutation(256)])


@styled
def usage(counts: Mapping[str, np.ndarray]) -> Figure:
    """Plots the share of frames per cluster, the most used first, for the model, its targets and random labels."""
    figure, ((axes,),) = canvas()
    lowest = 1.0
    for name in reversed(list(counts)):  # the model is drawn last, as a thin line on top of its targets
        share = 100 * np.sort(counts[name])[::-1] / counts[name].sum()
        lowest = min(lowest, share[-1])
        axes.plot(
            np.arange(1, len(share) + 1), share, color=KINDS[name], lw=2 if name == "model" else 4, label=name,
            alpha=1 if name == "model" else 0.6,
        )  # fmt: skip
    axes.set_yscale("symlog", linthresh=5 / len(share))
    axes.set_ylim(0.7 * lowest, None)
    axes.set_xlim(1, len(share))
    axes.set_xlabel("cluster, by rank of use")
    axes.set_ylabel("share of frames, % (log)")
    axes.set_title("Use of the clusters (the model should follow its targets)")
    axes.legend()
    return figure


@styled
def rank_by_layer(ranks: Sequence[float], width: int) -> Figure:
    """Plots the effective rank of every layer's frames, of `width` dimensions."""
    figure, ((axes,),) = canvas(size=(9, 3))
    axes.plot(range(len(ranks)), ranks, "o-", color=MODEL)
    for depth, rank in enumerate(ranks):
        axes.annotate(f"{rank:.0f}", (depth, rank), (0, 7), textcoords="offset points", ha="center")
    axes.set_xticks(range(len(ranks)))
    axes.set_ylim(0, 1.15 * max(ranks))
    axes.set_xlabel("layer")
    axes.set_ylabel(f"effective rank, of {width}")
    axes.set_title("Effective rank by layer (a rank near 1 is collapse; a higher rank is not better in itself)")
    return figure


@styled
def similarity(
    features: np.ndarray, segments: Sequence[tuple[str, float, float]] | None = None, frame_rate: float = FRAME_RATE
) -> Figure:
    """Plots the cosine of every pair of frames of an utterance, after subtracting the mean of the features (T, D)."""
    centred = features - features.mean(0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    seconds = len(features) / frame_rate
    figure, ((axes,),) = canvas(size=(7, 6))
    image = axes.imshow(unit @ unit.T, cmap="RdBu_r", vmin=-1, vmax=1, origin="lower", extent=(0, seconds, 0, seconds))
    for _, start, _ in segments or ():
        if 0 < start < seconds:
            axes.plot([start, start], [0, 0.012 * seconds], color="black", lw=0.8)
            axes.plot([0, 0.012 * seconds], [start, start], color="black", lw=0.8)
    axes.grid(False)
    axes.set_xlabel("time, s")
    axes.set_ylabel("time, s")
    ticks = "; ticks: phone boundaries" if segments else ""
    axes.set_title(f"Similarity of frames (squares are steady sounds{ticks})")
    figure.colorbar(image, ax=axes, label="cosine", shrink=0.8)
    return figure


@styled
def projection(features: np.ndarray, labels: np.ndarray, of: str) -> Figure:
    """Plots frames (N, D) on their first two principal components, coloured by the commonest of `labels` (N,).

    of: the name of the labels, '' without labels.
    """
    centred = np.asarray(features, np.float64) - features.mean(0)
    variances, axes_of = np.linalg.eigh(centred.T @ centred)
    xy = centred @ axes_of[:, :-3:-1]  # (N, 2)
    share = 100 * variances[:-3:-1] / max(variances.sum(), 1e-300)
    figure, ((axes,),) = canvas(size=(8.5, 6))
    names, counts = np.unique(labels, return_counts=True)
    common = names[np.argsort(-counts, kind="stable")][:10]
    rest = ~np.isin(labels, common)
    axes.scatter(*xy[rest].T, s=5, color="#d5d8dc", lw=0, label="others" if rest.any() else None)
    if not of:
        axes.scatter(*xy.T, s=9, color=MODEL, lw=0, alpha=0.5)
    for name, colour in zip(common if of else (), color_sequences["tab10"], strict=False):
        chosen = labels == name
        axes.scatter(*xy[chosen].T, s=9, color=colour, lw=0, alpha=0.8, label=str(name))
        axes.text(
            *np.median(xy[chosen], 0), str(name), weight="bold", ha="center", va="center",
            bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": colour, "alpha": 0.85},
        )  # fmt: skip
    axes.set_xlabel(f"first principal component ({share[0]:.0f}% of the variance)")
    axes.set_ylabel(f"second ({share[1]:.0f}%)")
    coloured = f", coloured by {of}" if of else ""
    axes.set_title(f"Frames in two dimensions{coloured}")
    if of:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2.5)
    return figure
