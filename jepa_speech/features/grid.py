"""The frame grid of features and encoders: 16 kHz, hop 320 (50 Hz), window 400, no centring.

Frame t covers the samples [320 t, 320 t + 400), in an anchor's features and in the encoder.
"""

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import jax
    import numpy as np

SAMPLE_RATE = 16_000
HOP = 320
WINDOW = 400
FRAME_RATE = SAMPLE_RATE / HOP

Count = TypeVar("Count", int, "np.ndarray", "jax.Array")  # of signed integers


def frames(samples: Count) -> Count:
    """Returns the number of whole frames in `samples` samples: floor((samples - 400) / 320) + 1, and none below 400."""
    return ((samples - WINDOW) // HOP + 1) * (samples >= WINDOW)


def samples(frames: Count) -> Count:
    """Returns the smallest number of samples that holds `frames` frames."""
    return (frames * HOP + WINDOW - HOP) * (frames > 0)
