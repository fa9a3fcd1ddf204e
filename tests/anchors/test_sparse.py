import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_speech.anchors import sparse

divergence_of = jax.jit(sparse.kl_to_sparse)


def distributions(rows=50, components=12, seed=0):
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.full(components, 0.3), rows).astype(np.float32)
    q = random.dirichlet(np.ones(components), rows)
    return jnp.asarray(p), jnp.log(jnp.asarray(q, jnp.float32))


def numpy_kl(ids, probs, log_q):
    """Over k + 1 classes, in float64."""
    q = np.exp(np.asarray(log_q, np.float64))
    values = []
    for row, kept in enumerate(np.asarray(ids)):
        p = np.asarray(probs[row], np.float64)
        p = np.append(p, max(1 - p.sum(), 0))
        target = np.append(q[row, kept], q[row].sum() - q[row, kept].sum())
        values.append(np.sum(p[p > 0] * np.log(p[p > 0] / target[p > 0])))
    return np.array(values)


@pytest.mark.parametrize("k", [1, 4, 11])
def test_kl_is_numpys(k):
    p, log_q = distributions()
    ids, probs = sparse.top_k(p, k)
    np.testing.assert_array_equal(ids, np.argsort(-np.asarray(p), axis=-1, kind="stable")[:, :k])
    np.testing.assert_allclose(divergence_of(ids, probs, log_q), numpy_kl(ids, probs, log_q), atol=1e-5)


@pytest.mark.parametrize("k", [1, 4, 11, 12])
def test_frames_without_posteriors_are_finite(k):
    """Padding has labels of zeros. Neither value nor gradient may be NaN, since NaN times a weight of 0 is NaN."""
    p, log_q = distributions()
    ids, probs = sparse.top_k(p, k)
    some = jnp.arange(50) % 3 > 0
    probs = probs * some[:, None]
    values, pull = jax.jit(jax.value_and_grad(lambda x: (sparse.kl_to_sparse(ids, probs, x) * some).sum()))(log_q)
    assert np.isfinite(divergence_of(ids, probs, log_q)).all()
    assert np.isfinite(values) and np.isfinite(pull).all()
    np.testing.assert_array_equal(pull[~some], 0)


def test_all_components_give_the_dense_kl_and_fewer_never_more():
    p, log_q = distributions()
    dense = jnp.sum(jax.scipy.special.xlogy(p, p) - p * log_q, axis=-1)
    np.testing.assert_allclose(divergence_of(*sparse.top_k(p, 12), log_q), dense, atol=1e-5)
    previous = np.zeros(len(p))
    for k in (1, 2, 6, 12):
        divergence = np.asarray(divergence_of(*sparse.top_k(p, k), log_q))
        assert (divergence >= previous - 1e-5).all()
        previous = divergence


def check_extremes(divergence):
    """Property 10: one-hot posteriors make it a cross-entropy; uniform ones, uniformly predicted, pull nowhere."""
    _, log_q = distributions()
    target = np.arange(50) % 12
    value = jax.jit(divergence)
    slope = jax.jit(jax.grad(lambda x, ids, probs: divergence(ids, probs, jax.nn.log_softmax(x)).sum()))
    for k in (1, 4, 12):
        ids, probs = sparse.top_k(jax.nn.one_hot(target, 12), k)
        np.testing.assert_allclose(value(ids, probs, log_q), -log_q[np.arange(50), target], atol=1e-5)
        ids, probs = sparse.top_k(jnp.full((3, 12), 1 / 12), k)
        np.testing.assert_allclose(slope(jnp.zeros((3, 12)), ids, probs), 0, atol=1e-6)


def without_pool(ids, probs, log_q):
    """What the top k leave out is forgotten."""
    return (probs * (jnp.log(jnp.maximum(probs, 1e-30)) - jnp.take_along_axis(log_q, ids, -1))).sum(-1)


def test_one_hot_and_uniform_posteriors():
    check_extremes(sparse.kl_to_sparse)
    with pytest.raises(AssertionError):
        check_extremes(without_pool)


@jax.jit
def value_and_slope(logits, ids, probs):
    return jax.value_and_grad(lambda x: sparse.kl_to_sparse(ids, probs, jax.nn.log_softmax(x)))(logits)


@pytest.mark.parametrize("probs", [[1.0, 0.0], [0.0, 0.0], [0.6, 0.4005], [0.5, 0.2], [1e-30, 0.0]])
@pytest.mark.parametrize("scale", [0.0, 30.0, 500.0, -500.0])
def test_values_and_gradients_are_finite_at_the_extremes(probs, scale):
    """The pool may be empty, or be all there is, and the model may be certain, rightly or wrongly."""
    ids, probs = jnp.array([2, 0]), jnp.array(probs)
    logits = jnp.zeros(6).at[2].set(scale)
    value, gradient = value_and_slope(logits, ids, probs)
    assert np.isfinite(value)
    assert value >= -1e-6
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("k", [1, 5, 12])
def test_what_storing_loses_is_numpys(k):
    p, _ = distributions()
    ids, probs = sparse.top_k(p, k)
    stored = np.full(p.shape, ((1 - probs.sum(-1)) / max(12 - k, 1))[:, None], np.float64)
    np.put_along_axis(stored, np.asarray(ids), np.asarray(probs, np.float64), axis=-1)
    dense = np.asarray(p, np.float64)
    expected = np.sum(dense * np.log((dense + 1e-30) / (np.maximum(stored, 0) + 1e-30)), axis=-1)
    np.testing.assert_allclose(sparse.storage_loss(p, ids, probs), expected, atol=1e-5)


def test_no_more_is_sorted_than_is_kept():
    """Where only some of the frames are used: on a CPU, a sort of all components took half of a small step."""
    first = jax.jit(lambda p: jax.tree.map(lambda x: x[:, :10], sparse.top_k(p, 4)))
    compiled = first.lower(jnp.ones((2, 20, 64))).compile().as_text()
    assert "TopK" in compiled and " sort(" not in compiled
