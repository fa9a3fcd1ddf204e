"""Encode waves of any length and number in few shapes, so that few programs are compiled.

Waves are padded with silence to one of a few lengths, and batched in one of a few sizes. Waves longer than the longest
length are encoded in windows.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.features.grid import HOP, SAMPLE_RATE, samples

# Padding does not change the result (tested). Longer waves than the last are cut into windows.
PADDED_SECONDS = (1, 2, 4, 8, 16, 30, 60)
OVERLAP_SECONDS = 10  # of neighbouring windows; each keeps its frames up to the middle of the overlap
# Rows of a batch: the largest number that is there and stays within these seconds. No batch is padded with rows.
ROWS, BATCH_SECONDS = (16, 4, 1), 64

Waves = Sequence[np.ndarray] | np.ndarray  # (S,) each, or (B, S)
Function = Callable[[Any, Any], tuple[Sequence[Any], Any]]  # waves (B, S), lengths -> [(B, T, D)], frame lengths


class Window(NamedTuple):
    """A piece (S,) of wave number `row`, and the slice of its frames that is kept."""

    row: int
    wave: np.ndarray
    keep: slice


def layers_of(function: Function, waves: Sequence[np.ndarray], hop: int) -> list[list[np.ndarray]]:
    """Returns the layers of each wave, each (T, D) float32. waves: (S,) at 16 kHz. hop: samples from frame to frame."""
    windows = [window for row, wave in enumerate(waves) for window in windows_of(row, wave, hop)]
    by_length: dict[int, list[int]] = {}
    for i, window in enumerate(windows):
        by_length.setdefault(padded_seconds(window.wave), []).append(i)
    kept: dict[int, list[np.ndarray]] = {}
    for seconds, left in by_length.items():
        while left:
            rows = next(rows for rows in ROWS if rows <= len(left) and (rows == 1 or rows * seconds <= BATCH_SECONDS))
            batch, left = left[:rows], left[rows:]
            found = layers_of_batch(function, [windows[i].wave for i in batch], seconds)
            kept |= {i: [layer[windows[i].keep] for layer in layers] for i, layers in zip(batch, found, strict=True)}
    parts: list[list[list[np.ndarray]]] = [[] for _ in waves]
    for i, window in enumerate(windows):
        parts[window.row].append(kept[i])
    return [[np.concatenate(layer) for layer in zip(*pieces, strict=True)] for pieces in parts]


def windows_of(row: int, wave: np.ndarray, hop: int) -> Iterator[Window]:
    """Yields the whole wave, or windows of the longest padded length, whose kept frames cover the wave once."""
    longest, overlap = (seconds * SAMPLE_RATE for seconds in (PADDED_SECONDS[-1], OVERLAP_SECONDS))
    if len(wave) <= longest:
        yield Window(row, wave, slice(None))
        return
    starts = [*range(0, len(wave) - longest, (longest - overlap) // hop * hop)]
    starts.append(-(-(len(wave) - longest) // hop) * hop)  # the last window ends with the wave, on the grid
    edges = [0, *(start + overlap // 2 for start in starts[1:]), None]
    for start, first, last in zip(starts, edges[:-1], edges[1:], strict=True):
        keep = slice((first - start) // hop if first else 0, None if last is None else (last - start) // hop)
        yield Window(row, wave[start : start + longest], keep)


def padded_seconds(wave: np.ndarray) -> int:
    return next(seconds for seconds in PADDED_SECONDS if seconds * SAMPLE_RATE >= len(wave))


def layers_of_batch(function: Function, waves: Sequence[np.ndarray], seconds: int) -> list[list[np.ndarray]]:
    padded = np.zeros((len(waves), samples(seconds * SAMPLE_RATE // HOP + 1)), np.float32)
    for row, wave in zip(padded, waves, strict=True):
        row[: len(wave)] = wave
    layers, frame_lengths = function(jnp.asarray(padded), jnp.array([len(wave) for wave in waves]))
    layers = [np.asarray(layer, np.float32) for layer in layers]
    return [[layer[row, :count] for layer in layers] for row, count in enumerate(np.asarray(frame_lengths))]


def rows_of(waves: Waves, lengths: Sequence[int] | np.ndarray | None) -> list[np.ndarray]:
    """Returns the waves of a batch, each cut to its length. Raises UserError for an empty batch or wrong lengths."""
    if getattr(waves, "ndim", 2) != 2:
        raise UserError(f"a batch is a list of waves (S,) or an array (B, S), not {np.shape(waves)}: see `represent`")
    rows = [np.asarray(wave) for wave in waves]
    if not rows:
        raise UserError("the batch is empty: pass at least one wave")
    if lengths is None:
        return rows
    found = np.asarray(lengths)
    if found.shape != (len(rows),) or not np.issubdtype(found.dtype, np.integer):
        raise UserError(
            f"lengths has type {found.dtype} and shape {found.shape}: pass {len(rows)} integers, one for each wave"
        )
    for i, (row, length) in enumerate(zip(rows, found, strict=True)):
        if not 0 <= length <= len(row):
            raise UserError(f"lengths[{i}] = {length}, and wave {i} has {len(row)} samples")
    return [row[:length] for row, length in zip(rows, found, strict=True)]
