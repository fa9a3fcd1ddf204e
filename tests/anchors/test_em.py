import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from jepa_speech.anchors import em, frames, gmm, temperature
from jepa_speech.errors import UsageError


def blobs(count=3_000, dim=5, clusters=6, seed=0):
    random = np.random.default_rng(seed)
    centres = random.normal(scale=3, size=(clusters, dim))
    x = centres[random.integers(clusters, size=count)] + random.normal(size=(count, dim))
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32)


def start(z, components, seed=0):
    random = np.random.default_rng(seed)
    means = z[random.choice(len(z), components, replace=False)].astype(np.float64)
    return em.Parameters(np.full(components, 1 / components), means, np.ones_like(means))


def test_one_step_is_the_closed_form_and_sklearns(monkeypatch):
    monkeypatch.setattr(frames, "BATCH", 1_000)  # several batches, the last one filled up
    z = blobs()[:2_500]
    parameters = start(z, 6)
    stepped = em.maximisation(em.expectation(parameters, [z]))

    x = z.astype(np.float64)
    square = np.sum((x[:, None] - parameters.means) ** 2 / parameters.variances, axis=-1)
    p = parameters.weights * np.exp(-0.5 * square)
    p /= p.sum(1, keepdims=True)
    counts = p.sum(0)
    means = p.T @ x / counts[:, None]
    variances = p.T @ x**2 / counts[:, None] - means**2
    np.testing.assert_allclose(stepped.weights, counts / len(x), atol=1e-5)
    np.testing.assert_allclose(stepped.means, means, atol=1e-5)
    np.testing.assert_allclose(stepped.variances, variances, atol=1e-5)

    oracle = GaussianMixture(6, covariance_type="diag", reg_covar=0)
    oracle._initialize_parameters(x, np.random.RandomState(0))
    oracle.weights_, oracle.means_ = parameters.weights, parameters.means
    oracle.covariances_ = parameters.variances
    oracle.precisions_cholesky_ = 1 / np.sqrt(parameters.variances)
    oracle._m_step(x, oracle._e_step(x)[1])
    np.testing.assert_allclose(stepped.means, oracle.means_, atol=1e-5)
    np.testing.assert_allclose(stepped.variances, oracle.covariances_, atol=1e-5)


def sklearn_fit(x, start, iterations):
    """Without a tolerance or a floor; it warns of not having converged, of course."""
    oracle = GaussianMixture(
        len(start.weights),
        covariance_type="diag",
        reg_covar=0,
        max_iter=iterations,
        tol=0,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=1 / start.variances,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return oracle.fit(x.astype(np.float64))


def test_a_whole_fit_is_sklearns(monkeypatch):
    """From equal parameters, more components than blobs: 15 iterations, in the likelihood of held-out frames."""
    z = blobs(count=4_000, dim=8, clusters=10)
    begin = start(z, 16)
    monkeypatch.setattr(em, "initialise", lambda *_: begin)
    fitted = em.fit([z[:2_000], z[2_000:3_000]], z, z[3_000:], em.Options(16, iterations=15, tolerance=0))
    assert fitted.reseeded == 0
    assert fitted.heldout[-1] > fitted.heldout[0] + 0.1  # it has come some way
    oracle = sklearn_fit(z[:3_000], start(z, 16), 15)
    assert fitted.heldout[-1] == pytest.approx(oracle.score(z[3_000:].astype(np.float64)), abs=1e-3)
    short = sklearn_fit(z[:3_000], start(z, 16), 5)
    assert abs(short.score(z[3_000:].astype(np.float64)) - fitted.heldout[-1]) > 1e-3


def test_likelihood_never_falls_and_is_reported_per_iteration():
    z, seen = blobs(), []
    result = em.fit(
        [z[:2_500]], z[:2_500], z[2_500:], em.Options(components=8, iterations=12, tolerance=0), seen.append
    )
    assert result.reseeded == 0
    assert (np.diff(result.log_likelihood) >= -1e-6).all()
    assert len(result.heldout) == len(result.log_likelihood) == len(seen) - 1 > 3
    dim = z.shape[1]
    oracle = result.parameters.mixture(np.zeros(dim), np.ones(dim), "mfcc").to_sklearn()
    assert result.log_likelihood[-1] == pytest.approx(oracle.score(z[:2_500]), abs=1e-4)
    assert result.heldout[-1] == pytest.approx(oracle.score(z[2_500:]), abs=1e-4)


def test_a_dead_component_is_seeded_again(monkeypatch):
    z = blobs(clusters=4)
    parameters = start(z, 4)
    parameters.means[2] = 100.0  # explains nothing
    monkeypatch.setattr(em, "initialise", lambda *_: parameters)
    result = em.fit([z], z, z[:100], em.Options(components=4, iterations=15))
    assert result.reseeded == 1
    assert result.alive == 4
    assert [row["alive"] for row in result.history[:2]] == [3, 4]
    assert result.history[0]["usage_entropy"] < result.history[-1]["usage_entropy"]
    assert result.parameters.weights.min() > em.DEAD_FRAMES / len(z)


def test_the_seed_decides():
    z = blobs(count=800)
    fits = [em.fit([z], z, z[:50], em.Options(components=5, iterations=3, seed=seed)).parameters for seed in (0, 0, 1)]
    np.testing.assert_array_equal(fits[0].means, fits[1].means)
    assert not np.array_equal(fits[0].means, fits[2].means)


def test_variances_keep_their_floor():
    z = np.repeat(blobs(count=40), 5, axis=0)  # copies: a component could shrink onto one point
    result = em.fit([z], z, z, em.Options(components=30, iterations=10))
    assert result.parameters.variances.min() >= em.VARIANCE_FLOOR


def test_more_components_than_frames_is_refused():
    z = blobs(count=10)
    with pytest.raises(UsageError, match=r"11 components .* 10"):
        em.fit([z], z, z, em.Options(components=11))
    em.fit([z], z, z, em.Options(components=10, iterations=2))


@pytest.mark.parametrize("perplexity", [1.5, 4.0])
def test_temperature_gives_the_perplexity_asked_for(perplexity):
    z = blobs()
    parameters = em.fit([z], z, z[:10], em.Options(components=8, iterations=3)).parameters
    arrays = parameters.arrays()
    found = temperature.temperature_for(arrays, z, perplexity)
    p = np.asarray(gmm.posteriors(arrays, z, found), np.float64)
    assert np.exp(-np.sum(p * np.log(p + 1e-30), -1).mean()) == pytest.approx(perplexity, rel=1e-3)
    report = temperature.sharpness(arrays, z, found)
    assert report["perplexity"] == pytest.approx(perplexity, rel=1e-3)
    assert report["top1"] == pytest.approx(p.max(-1).mean(), abs=1e-4)


@pytest.mark.parametrize("perplexity", [0.5, 1.0, 8.0, 100.0])
def test_a_perplexity_out_of_reach_is_refused(perplexity):
    z = blobs(count=100)
    with pytest.raises(UsageError, match="below the 8 components"):
        temperature.temperature_for(start(z, 8).arrays(), z, perplexity)
