"""SIGReg against the package jepa-science, on the same directions and nodes."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jepa_science import sigreg as theirs
from parity.oracles import Difference

from jepa_speech.objective_parts.sigreg import NODES, sigreg_term, unit_vectors
from jepa_speech.training.step import value


def sigreg() -> list[Difference]:
    """Of rows of different lengths; there, of their valid frames as one sample, in float64.

    In float32, the angles of a frame are wrong by 1e-6, and so are the sums of their cosines; relative to a distance of
    some 0.1 that is 1e-5 at most.
    """
    random, key = np.random.default_rng(0), jax.random.PRNGKey(0)
    z = random.standard_t(4, (3, 60, 24)).astype(np.float32)
    weight = (np.arange(60) < np.array([60, 45, 20])[:, None]).astype(np.float32)
    directions = unit_vectors(key, jnp.asarray(5), 50, z.shape[-1])

    def ours(z: jax.Array) -> jax.Array:
        return value(sigreg_term(z, jnp.asarray(weight), directions, 1.0))

    found, gradient = jax.jit(jax.value_and_grad(ours))(z)
    frames = torch.tensor(z[weight > 0].astype(np.float64), requires_grad=True)
    given = torch.tensor(np.asarray(directions, np.float64).T)
    with mock.patch.object(theirs, "_sample_directions", lambda *sizes, **kind: given):
        times_frames = theirs.sigreg_loss(frames, len(directions), len(NODES) + 1, float(NODES[-1]))
    (expected := times_frames / len(frames)).backward()
    wanted = frames.grad.numpy()
    error = np.abs(np.asarray(gradient)[weight > 0] - wanted).max() / np.abs(wanted).max()
    padding = np.abs(np.asarray(gradient)[weight == 0]).max()
    return [
        Difference("SIGReg", "statistic, relative", abs(float(found) / expected.item() - 1), 1e-5),
        Difference("SIGReg", "gradient, relative", error, 1e-5),
        Difference("SIGReg", "gradient of padding", float(padding), 0),
    ]
