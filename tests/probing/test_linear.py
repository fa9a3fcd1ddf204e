"""The classifier against scikit-learn, and what it must and must not find."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jepa_speech.probing.inputs import Rows
from jepa_speech.probing.linear import Recipe, fit, predict


def rows(x: np.ndarray, y: np.ndarray, classes: int) -> Rows:
    """N rows of one utterance each."""
    names = tuple(map(str, range(len(y))))
    return Rows(x.astype(np.float32), y, np.arange(len(y)), names, tuple("abcdefgh"[:classes]))


def test_one_layer_is_logistic_regression():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400)
    x = rng.normal(size=(400, 6)) + rng.normal(size=(3, 6))[y]
    data, decay = rows(x[:, None], y, 3), 1e-2
    ours = fit(data, data, Recipe(learning_rates=(1e-2,), decays=(decay,), steps=1500, batch=400))
    theirs = LogisticRegression(C=1 / (2 * decay * 400), max_iter=1000, tol=1e-8).fit(x, y)
    np.testing.assert_allclose(ours.kernel.T, theirs.coef_, atol=5e-3)
    assert (predict(ours, data.x) == theirs.predict(x)).mean() > 0.995
    assert ours.layer_weights.tolist() == [1.0]


def test_the_sum_turns_to_the_layer_that_knows():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 4, 600)
    x = rng.normal(size=(600, 3, 4))
    x[:, 1] = 3 * np.eye(4)[y]
    train, valid = rows(x[:400], y[:400], 4), rows(x[400:], y[400:], 4)
    model = fit(train, valid, Recipe(learning_rates=(1e-2,), decays=(0.0,), steps=300, batch=128))
    assert model.layer_weights.argmax() == 1 and model.layer_weights.sum() == pytest.approx(1, abs=1e-5)
    assert model.valid_accuracy == 1.0


def test_the_grid_is_chosen_on_valid_and_the_seed_fixes_all():
    rng = np.random.default_rng(2)
    y = rng.integers(0, 3, 200)
    x = np.eye(3)[y][:, None] + 0.1 * rng.normal(size=(200, 1, 3))
    recipe = Recipe(learning_rates=(0.0, 1e-2), decays=(10.0, 0.0), steps=60, batch=64)
    found = [fit(rows(x, y, 3), rows(x, y, 3), recipe, seed) for seed in (0, 0, 1)]
    assert found[0].learning_rate == 1e-2 and found[0].valid_accuracy == 1.0
    assert (found[0].kernel == found[1].kernel).all() and (found[0].kernel != found[2].kernel).any()
