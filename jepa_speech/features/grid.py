"""The frame grid, one for the whole house: 16 kHz, hop 320 (50 Hz), window 400, no centring.

Frame t sees the samples [320 t, 320 t + 400), for the features of the anchors as for the encoder.
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
    """Whole frames within `samples` samples: floor((samples - 400) / 320) + 1, and none below 400."""
    return ((samples - WINDOW) // HOP + 1) * (samples >= WINDOW)


def samples(frames: Count) -> Count:
    """The smallest number of samples that holds `frames` frames."""
    return (frames * HOP + WINDOW - HOP) * (frames > 0)
