import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.cluster
from support.random_anchors import make_kmeans, nearest

from jepa_speech.anchors import gmm, kmeans, sparse


def frames(anchor, count=2_000, seed=1):
    """Raw log-mel-like features: their mean is many deviations away from 0, where expanded squares lose most."""
    random = np.random.default_rng(seed)
    z = anchor.centroids[random.integers(anchor.components, size=count)] + random.normal(
        scale=2, size=(count, anchor.dim)
    )
    return (z + anchor.shift).astype(np.float32)


def check_nearest(assign, anchor, x):
    """Where the two nearest centroids are not equally near, as float64 sees it, the label is that of the nearest."""
    distance = np.square(x[:, None].astype(np.float64) - anchor.shift - anchor.centroids).sum(-1)  # (N, K)
    first, second = np.sort(distance, axis=-1)[:, :2].T
    clear = second - first > 1e-5 * first
    assert clear.mean() > 0.999
    np.testing.assert_array_equal(assign(anchor.arrays(), x)[clear], distance.argmin(-1)[clear])


def half_precision(arrays, x):
    """What an accelerator does by default: inputs of matmuls in bfloat16; and features as they come."""
    centroids = (arrays["linear"].T + arrays["shift"]).astype(jnp.bfloat16)
    joint = jnp.matmul(jnp.asarray(x, jnp.bfloat16), centroids.T, preferred_element_type=jnp.float32)
    return jnp.argmax(joint - 0.5 * jnp.sum(jnp.square(centroids.astype(jnp.float32)), -1), -1)


def test_labels_are_the_nearest_centroids():
    anchor = make_kmeans(components=200)
    anchor.centroids[:] /= 6  # so near to each other that errors show
    anchor.shift[:] -= 40
    x = frames(anchor)
    check_nearest(nearest, anchor, x)
    with pytest.raises(AssertionError):
        check_nearest(half_precision, anchor, x)


def test_round_trip_through_sklearn():
    x = frames(make_kmeans(components=6), 800)
    for estimator in (
        sklearn.cluster.KMeans(6, n_init=1),
        sklearn.cluster.MiniBatchKMeans(6, n_init=1, batch_size=2048),
    ):
        anchor = kmeans.from_sklearn(estimator.set_params(random_state=0, max_iter=3).fit(x), "mfcc", "mean")
        assert (anchor.components, anchor.dim, anchor.features, anchor.normalize) == (6, 39, "mfcc", "mean")
        np.testing.assert_array_equal(nearest(anchor.arrays(), x), estimator.predict(x))
        back = anchor.to_sklearn()
        np.testing.assert_allclose(back.cluster_centers_, estimator.cluster_centers_, atol=1e-5)
        np.testing.assert_array_equal(back.predict(x.astype(np.float64)), estimator.predict(x))
    skewed = make_kmeans()
    skewed.scale[0] = 2
    with pytest.raises(ValueError, match="Euclidean"):
        skewed.to_sklearn()


def test_posteriors_are_the_limit_of_a_mixtures_at_temperature_0():
    """And one-hot, so that the divergence from them is the cross-entropy of the label."""
    anchor = make_kmeans(components=5)
    x = frames(anchor, 300)
    p = np.asarray(gmm.posteriors(anchor.arrays(), x))
    np.testing.assert_array_equal(p, jax.nn.one_hot(nearest(anchor.arrays(), x), 5))
    mixture = gmm.DiagonalGMM(
        means=anchor.centroids,
        variances=np.ones_like(anchor.centroids),
        weights=np.full(5, 0.2, np.float32),
        shift=anchor.shift,
        scale=anchor.scale,
        features="mfcc",
        temperature=1e-3,
    )
    np.testing.assert_allclose(gmm.posteriors(mixture.arrays(), x), p, atol=1e-3)
    assert jax.tree.map(jnp.shape, mixture.arrays()) == jax.tree.map(jnp.shape, anchor.arrays())

    log_q = jax.nn.log_softmax(np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32))
    expected = -np.take_along_axis(np.asarray(log_q), p.argmax(-1)[:, None], -1)[:, 0]
    for k in (1, 3):
        np.testing.assert_allclose(sparse.kl_to_sparse(*sparse.top_k(p, k), log_q), expected, atol=1e-5)
