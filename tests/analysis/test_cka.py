"""Linear CKA against its closed form and its invariances."""

import numpy as np
import pytest

from jepa_speech.analysis.cka import LinearCka
from jepa_speech.errors import UserError


def plain(x, y):
    """The formula, written down."""
    x, y = x - x.mean(0), y - y.mean(0)
    return np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def streamed(x, y, parts=7):
    """Layers x of one system and y of another, in parts of unequal size."""
    cka = LinearCka([("x", "y")])
    for rows in np.array_split(np.arange(len(x[0])), parts):
        cka.add({"x": [layer[rows] for layer in x], "y": [layer[rows] for layer in y]})
    return cka.between("x", "y")


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    return rng.normal(size=(2000, 12)) * np.linspace(0.2, 2, 12) + 5


def rotation(size, seed=1):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


def test_streaming_is_the_plain_formula_for_every_pair_of_layers(x):
    rng = np.random.default_rng(2)
    ours = [x, x**2]
    theirs = [x[:, :5] + rng.normal(size=(2000, 5)), np.tanh(x), rng.normal(size=(2000, 3)) + x[:, :3]]
    expected = [[plain(a, b) for b in theirs] for a in ours]
    np.testing.assert_allclose(streamed(ours, theirs), expected, rtol=1e-12)


def test_large_means_cost_no_digits(x):
    """The recordings' means differ from the first one's, and all are far from 0."""
    drift = np.linspace(0, 3, 2000)[:, None]
    near, y = x + drift, np.sin(x) + drift
    far = near + 2.0**20
    np.testing.assert_allclose(streamed([far], [y]), plain(near, y), rtol=1e-8)


def test_itself_rotated_and_scaled_is_1_and_otherwise_mapped_is_not(x):
    same = [x, 3 * x, x @ rotation(12), 0.1 * x @ rotation(12, 4) - 7, np.pad(x, ((0, 0), (0, 4)))]
    np.testing.assert_allclose(streamed([x], same), 1, rtol=1e-12)
    stretched = x * np.linspace(1, 20, 12)[::-1]  # linear and invertible, but no rotation
    found = streamed([x], [stretched])[0, 0]
    assert found == pytest.approx(plain(x, stretched)) and found < 0.8


def test_independent_noise_is_near_0_with_many_frames_only():
    rng = np.random.default_rng(3)
    many, few = (streamed([rng.normal(size=(n, 10))], [rng.normal(size=(n, 10))])[0, 0] for n in (20_000, 20))
    assert many == pytest.approx(10 / 20_000, rel=0.5) and few > 0.2


def test_a_system_with_itself(x):
    cka = LinearCka([("x", "x")])
    cka.add({"x": [x, x @ rotation(12), x**2], "other": [x[:3]]})  # systems without a pair are ignored
    found = cka.between("x", "x")
    np.testing.assert_allclose(found, found.T)
    np.testing.assert_allclose(found[:2, :2], 1)
    assert found[0, 2] == pytest.approx(plain(x, x**2))


def test_layers_that_would_not_fit_are_left_out(x):
    cka = LinearCka([("x", "x")], memory=8 * (2 * 12) ** 2)
    cka.add({"x": [x + i * x**2 for i in range(4)]})
    assert cka.layers == {"x": [1, 3]}
    assert cka.between("x", "x")[0, 1] == pytest.approx(plain(x + x**2, x + 3 * x**2))


def test_a_constant_layer_has_none_and_frames_must_be_the_same(x):
    assert np.isnan(streamed([x], [np.ones((2000, 2))])).all()
    with pytest.raises(UserError, match="same frames"):
        LinearCka([("x", "y")]).add({"x": [x], "y": [x[1:]]})
