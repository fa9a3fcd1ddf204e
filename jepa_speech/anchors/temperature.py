"""The sharpness of posteriors, and the temperature for a wanted perplexity."""

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech.anchors.anchor import Arrays
from jepa_speech.anchors.frames import batches
from jepa_speech.anchors.gmm import log_joint
from jepa_speech.errors import UsageError

_TEMPERATURES = (1e-3, 1e4)


def sharpness(arrays: Arrays, x: np.ndarray, temperature: float) -> dict[str, float]:
    """Returns three figures of frames (N, D): mean posterior entropy (nats), perplexity exp(entropy), and "top1".

    top1: the mean over frames of the largest posterior.
    """
    return _sharpness(_joints(arrays, x), len(x), temperature)


def temperature_for(arrays: Arrays, x: np.ndarray, perplexity: float) -> float:
    """Returns the temperature at which posteriors of the frames x (N, D) have this perplexity.

    Bisects the logarithm of the temperature, with N x K floats in memory. Raises UsageError unless 1 < perplexity < K.
    """
    components, joints = arrays["constant"].shape[0], _joints(arrays, x)

    def reached(log_temperature: float) -> float:
        return _sharpness(joints, len(x), np.exp(log_temperature))["perplexity"]

    low, high = np.log(_TEMPERATURES)
    if not reached(low) < perplexity < reached(high):
        raise UsageError(f"perplexity = {perplexity:g}: choose one above 1 and below the {components} components")
    for _ in range(40):
        middle = (low + high) / 2
        if reached(middle) < perplexity:
            low = middle
        else:
            high = middle
        if high - low < 1e-4:
            break
    return float(np.exp((low + high) / 2))


def _joints(arrays: Arrays, x: np.ndarray) -> list[tuple[jax.Array, np.ndarray]]:
    return [(_log_joint(arrays, part), valid) for part, valid in batches(x)]


def _sharpness(joints: list[tuple[jax.Array, np.ndarray]], frames: int, temperature: float) -> dict[str, float]:
    entropy = top = 0.0
    for joint, valid in joints:
        sums = _sums(joint, valid, temperature)
        entropy, top = entropy + float(sums[0]), top + float(sums[1])
    entropy /= frames
    return {"entropy": entropy, "perplexity": float(np.exp(entropy)), "top1": top / frames}


_log_joint = jax.jit(log_joint)


@jax.jit
def _sums(joint: jax.Array, valid: jax.Array, temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
    log_p = jax.nn.log_softmax(joint / temperature, axis=-1)
    p = jnp.exp(log_p)
    return -jnp.sum(jnp.sum(p * log_p, -1) * valid), jnp.sum(p.max(-1) * valid)
