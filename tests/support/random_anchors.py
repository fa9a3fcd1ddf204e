"""Anchors with random clusters, for tests that need no real ones."""

import jax.numpy as jnp
import numpy as np

from jepa_speech.anchors import gmm, kmeans


def make_gmm(components=16, dim=39, seed=0, features="mfcc", **kwargs):
    random = np.random.default_rng(seed)
    arrays = {
        "means": random.normal(size=(components, dim)),
        "variances": random.uniform(0.2, 1.5, size=(components, dim)),
        "weights": random.dirichlet(np.ones(components)),
        "shift": random.normal(scale=5, size=dim),
        "scale": random.uniform(0.5, 4, size=dim),
    }
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    return gmm.DiagonalGMM(**arrays, features=features, **kwargs)


def make_kmeans(components=16, dim=39, seed=0, features="mfcc", **kwargs):
    random = np.random.default_rng(seed)
    arrays = {
        "centroids": random.normal(scale=3, size=(components, dim)),
        "shift": random.normal(scale=5, size=dim),
        "scale": np.ones(dim),
    }
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    return kmeans.KMeans(**arrays, features=features, **kwargs)


def nearest(arrays, x):
    """The nearest centroid of unstandardised features, or the likeliest component: (…, D) -> (…)."""
    return jnp.argmax(gmm.log_joint(arrays, x), axis=-1)
