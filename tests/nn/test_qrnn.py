import jax
import numpy as np

from jepa_speech.nn.module import Pure
from jepa_speech.nn.qrnn import QRNN, linear_recurrence


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_the_scan_is_the_loop():
    rng = np.random.default_rng(0)
    keep, new = rng.uniform(0, 1, (2, 37, 3)), rng.normal(size=(2, 37, 3))
    state, expected = np.zeros((2, 3)), np.empty_like(new)
    for t in range(37):
        state = keep[:, t] * state + new[:, t]
        expected[:, t] = state
    np.testing.assert_allclose(jax.jit(linear_recurrence)(keep, new), expected, atol=1e-6)


def test_a_layer_is_the_published_loop():
    layer = Pure(lambda rngs: QRNN(4, 5, np.dtype("float32"), rngs))
    params = layer.init(jax.random.PRNGKey(0))
    x = np.random.default_rng(1).normal(size=(2, 11, 4))
    kernel, bias = (np.asarray(params["gates"][name], np.float64) for name in ("kernel", "bias"))
    state, before, expected = np.zeros((2, 5)), np.zeros((2, 4)), np.empty((2, 11, 5))
    for t in range(11):
        z, f, o = np.split(np.concatenate([x[:, t], before], -1) @ kernel + bias, 3, -1)
        state = sigmoid(f) * np.tanh(z) + (1 - sigmoid(f)) * state
        expected[:, t] = sigmoid(o) * state
        before = x[:, t]
    np.testing.assert_allclose(layer.apply(params, x.astype(np.float32)), expected, atol=1e-6)
