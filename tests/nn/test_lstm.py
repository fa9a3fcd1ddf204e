"""The LSTM against a plain loop over each row alone, forwards and backwards."""

import jax
import numpy as np
import pytest

from jepa_speech.nn.lstm import Lstm
from jepa_speech.nn.module import Pure
from jepa_speech.nn.row_random import valid


def by_loop(params: dict, x: np.ndarray) -> np.ndarray:
    """x (T, D) -> (T, H)."""
    kernel, bias, recurrent = (
        np.asarray(leaf) for leaf in (params["input"]["kernel"], params["input"]["bias"], params["recurrent"])
    )
    h = c = np.zeros(recurrent.shape[0])
    outputs = []
    for frame in x:
        i, f, g, o = np.split(frame @ kernel + bias + h @ recurrent, 4)
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
        outputs.append(h)
    return np.array(outputs)


@pytest.mark.parametrize("reverse", [False, True])
def test_each_row_is_as_if_alone(reverse):
    layer = Pure(lambda rngs: Lstm(3, 4, reverse, rngs))
    params = layer.init(jax.random.PRNGKey(0))
    x, lengths = np.random.default_rng(0).normal(size=(3, 7, 3)).astype(np.float32), np.array([7, 4, 1])
    found = np.asarray(jax.jit(layer.apply)(params, x, valid(lengths, 7)))
    way = slice(None, None, -1 if reverse else 1)
    for row, length in enumerate(lengths):
        expected = by_loop(params, x[row, :length][way])[way]
        np.testing.assert_allclose(found[row, :length], expected, atol=1e-5)
        assert not found[row, length:].any()
