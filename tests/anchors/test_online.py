"""The online mixture's updates against scikit-learn, and against their definitions in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from jepa_speech.anchors import online
from jepa_speech.anchors.em import VARIANCE_FLOOR

K, D = 3, 4
UNBALANCED = (200, 8, 1)  # frames of each component in a batch


def mixture(seed: int = 0) -> online.Mixture:
    rng = np.random.default_rng(seed)
    arrays = {
        "weights": np.array([0.5, 0.25, 0.25]),
        "means": 3 * rng.normal(size=(K, D)),
        "variances": rng.uniform(0.5, 2, (K, D)),
    }
    return online.blank(K, D) | {name: jnp.asarray(x, jnp.float32) for name, x in arrays.items()}


def frames(m: online.Mixture, counts=UNBALANCED, seed: int = 1) -> np.ndarray:
    """Frames near other means than the mixture's own: (N, D) float64."""
    rng = np.random.default_rng(seed)
    near = np.repeat(np.asarray(m["means"], np.float64) + 0.4, counts, axis=0)
    return near + 0.7 * rng.normal(size=near.shape)


def sums_of(m: online.Mixture, x: np.ndarray) -> online.Sums:
    z = jnp.asarray(x, jnp.float32)
    return online.sums(online.posteriors(m, z), z, jnp.ones(len(z)))


def responsibilities(m: online.Mixture, x: np.ndarray) -> np.ndarray:
    w, means, variances = (np.asarray(m[name], np.float64) for name in ("weights", "means", "variances"))
    joint = -0.5 * (np.square(x[:, None] - means) / variances + np.log(2 * np.pi * variances)).sum(-1) + np.log(w)
    odds = np.exp(joint - joint.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def averaged_statistics(m: online.Mixture, batches: list[np.ndarray], rate: float) -> dict[str, np.ndarray]:
    """The statistics of an M step are averaged, and the mixture is their M step."""
    w, means, variances = (np.asarray(m[name], np.float64) for name in ("weights", "means", "variances"))
    held = [w, w[:, None] * means, w[:, None] * (variances + means**2)]
    for x in batches:
        q = responsibilities(m, x) / len(x)
        held = [(1 - rate) * a + rate * b for a, b in zip(held, (q.sum(0), q.T @ x, q.T @ x**2), strict=True)]
        means = held[1] / held[0][:, None]
        m = m | {"weights": held[0], "means": means, "variances": held[2] / held[0][:, None] - means**2}
    return m


def averaged_parameters(m: online.Mixture, batches: list[np.ndarray], rate: float) -> dict[str, np.ndarray]:
    """The parameters of each batch's own M step are averaged, of every component alike."""
    for x in batches:
        q = responsibilities(m, x)
        count = q.sum(0)[:, None]
        means = q.T @ x / count
        variances = np.stack([q[:, k] @ np.square(x - means[k]) for k in range(K)]) / count
        own = {"weights": q.mean(0), "means": means, "variances": variances}
        m = m | {name: (1 - rate) * np.asarray(m[name], np.float64) + rate * new for name, new in own.items()}
    return m


def same(found: online.Mixture, expected: online.Mixture, rtol: float = 1e-4) -> None:
    """Float32 sums of some hundred squares against float64."""
    for name in ("weights", "means", "variances"):
        np.testing.assert_allclose(found[name], expected[name], rtol=rtol, atol=1e-4, err_msg=name)


def test_an_update_at_rate_1_is_an_m_step_of_scikit_learn():
    m = mixture()
    x = frames(m, (200, 80, 40))
    start = {"weights_init": m["weights"], "means_init": m["means"], "precisions_init": 1 / m["variances"]}
    theirs = GaussianMixture(
        K,
        covariance_type="diag",
        reg_covar=0,
        max_iter=1,
        init_params="random_from_data",
        random_state=0,
        **{name: np.asarray(value, np.float64) for name, value in start.items()},
    )
    with pytest.warns(ConvergenceWarning):
        theirs.fit(x)
    expected = {"weights": theirs.weights_, "means": theirs.means_, "variances": theirs.covariances_}
    assert theirs.covariances_.min() > VARIANCE_FLOOR
    same(online.updated(m, sums_of(m, x), 1.0, "statistics"), expected)
    with pytest.raises(AssertionError):  # a rate below 1 keeps something of the mixture before
        same(online.updated(m, sums_of(m, x), 0.9, "statistics"), expected)


@pytest.mark.parametrize(
    ("rule", "ours", "other"),
    [
        ("statistics", averaged_statistics, averaged_parameters),
        ("parameters", averaged_parameters, averaged_statistics),
    ],
)
def test_the_two_rules_are_told_apart_by_unbalanced_batches(rule, ours, other):
    m, rate = mixture(), 0.2
    batches = [frames(m, counts, seed) for seed, counts in enumerate((UNBALANCED, (1, 8, 200), UNBALANCED))]
    found = m
    for x in batches:
        found = online.updated(found, sums_of(found, x), rate, rule)
    same(found, ours(m, batches, rate))
    with pytest.raises(AssertionError):
        same(found, other(m, batches, rate))


def test_the_fixed_point_of_stationary_data_is_their_m_step():
    """With fixed posteriors, from far away."""
    m = mixture()
    s = sums_of(m, frames(m, (50, 40, 30)))
    far = m | {"means": m["means"] + 5, "weights": jnp.full(K, 1 / K)}
    found = jax.lax.fori_loop(0, 300, lambda _, m: online.updated(m, s, 0.1, "statistics"), far)
    same(found, online.maximised(m, s), rtol=1e-3)
    with pytest.raises(AssertionError):
        same(online.updated(far, s, 0.1, "statistics"), online.maximised(m, s), rtol=1e-3)


def test_sums_add_and_frames_of_weight_0_are_no_frames():
    m = mixture()
    z = jnp.asarray(frames(m), jnp.float32)
    weight = jnp.asarray(np.random.default_rng(2).random(len(z)) < 0.5, jnp.float32)
    parts = [online.sums(online.posteriors(m, z), z, w) for w in (weight, 1 - weight)]
    for a, b, whole in zip(*parts, sums_of(m, z), strict=True):
        np.testing.assert_allclose(a + b, whole, rtol=1e-5, atol=1e-4)
    padded = jnp.where(weight[:, None] > 0, z, 1e3)
    for a, b in zip(online.sums(online.posteriors(m, padded), padded, weight), parts[0], strict=True):
        np.testing.assert_array_equal(a, b)
    nothing = online.sums(online.posteriors(m, z), z, 0 * weight)
    for rule in ("statistics", "parameters"):
        for name, x in online.updated(m, nothing, 0.5, rule).items():
            np.testing.assert_array_equal(x, m[name])


def test_a_component_without_frames_keeps_its_place():
    """The authors' code moves it to mean 0 and the least variance."""
    m = mixture()
    m = m | {"means": m["means"].at[2].set(40.0)}
    s = sums_of(m, frames(mixture(), (100, 100, 0)))
    for rule in ("statistics", "parameters"):
        found = online.updated(m, s, 0.5, rule)
        np.testing.assert_array_equal(found["means"][2], m["means"][2])
        np.testing.assert_allclose(found["weights"][2], m["weights"][2] / 2, rtol=1e-5)


def test_a_dead_component_revives_in_one_step():
    m = mixture()
    m = m | {"weights": jnp.array([0.6, 0.3999, 0.0001]), "means": m["means"].at[2].set(40.0)}
    x, filled = jnp.asarray(frames(m, (5, 5, 0)), jnp.float32), jnp.ones(10).at[3].set(0)
    found = online.revived(m, x, filled, jnp.array(4))
    assert float(found["weights"][2]) > 0.2 and float(found["weights"].sum()) == pytest.approx(1)
    (slot,) = np.flatnonzero((np.asarray(x) == np.asarray(found["means"][2])).all(-1))
    assert filled[slot] == 1
    assert int(online.posteriors(found, x[slot]).argmax()) == 2  # so the next batch gives it frames
    np.testing.assert_allclose(found["variances"][2], m["variances"][:2].mean(0), rtol=1e-6)
    np.testing.assert_array_equal(found["means"][:2], m["means"][:2])
    assert not np.array_equal(online.revived(m, x, filled, jnp.array(5))["means"][2], found["means"][2])
    whole = online.revived(mixture(), x, filled, jnp.array(4))
    same(whole, mixture())


@pytest.mark.parametrize("fresh", [True, False])
def test_seeding_finds_clusters_and_leaves_a_mixture_that_is_not_fresh(fresh):
    rng, old = np.random.default_rng(3), mixture()
    centres = 100 + np.array([10.0, 1, 1, 0.1]) * rng.normal(size=(K, D))  # far from 0, of unlike scales
    x = (centres[rng.integers(0, K, 150)] + 0.01 * rng.normal(size=(150, D))).astype(np.float32)
    filled = (np.arange(150) % 3 > 0).astype(np.float32)
    held = np.where(filled[:, None] > 0, x, -1e3)  # an empty slot may hold anything
    found = jax.jit(online.seeded)(old, held, filled, fresh)
    if not fresh:
        jax.tree.map(np.testing.assert_array_equal, found, old)
        return
    means = np.asarray(found["means"]) * found["scale"] + found["shift"]
    gaps = np.linalg.norm(means[:, None] - centres, axis=-1)
    assert gaps.min(0).max() < 0.1 and sorted(gaps.argmin(0)) == [0, 1, 2]
    assert float(found["variances"].min()) == pytest.approx(VARIANCE_FLOOR)
    np.testing.assert_allclose(found["shift"], x[filled > 0].mean(0), rtol=1e-4)
