"""Anchors and their features against scikit-learn's and librosa's."""

import warnings
from unittest import mock

import jax
import numpy as np
import sklearn.cluster
from anchors import test_em, test_gmm, test_lloyd
from features.test_spectral import librosa_log_mel, librosa_mfcc
from parity.oracles import Difference
from sklearn.exceptions import ConvergenceWarning
from support.random_anchors import make_gmm
from support.toys import toy_audio

from jepa_speech.anchors import em, gmm, lloyd
from jepa_speech.features import spectral


def posteriors(components: int, dim: int, count: int = 2_000) -> list[Difference]:
    """Of frames drawn from a mixture whose likeliest component has a posterior of 0.5, on average.

    Float32 leaves a log density of size 100 an error of some 1e-5; a posterior p moves by p (1 - p) times that.
    """
    anchor, label = make_gmm(components, dim), f"GMM, {components} components"
    anchor.means[:] /= 3  # as they come, components are so far apart that posteriors are 0 and 1
    anchor.variances[:] **= 1 / 3
    x = test_gmm.sample(anchor, count)
    oracle = anchor.to_sklearn()
    difference = np.abs(gmm.posteriors(anchor.arrays(), x) - oracle.predict_proba(x))
    likelihood = jax.nn.logsumexp(gmm.log_joint(anchor.arrays(), x), axis=-1)
    return [
        Difference(label, "posteriors, largest", difference.max(), 1e-4),
        Difference(label, "posteriors, mean", difference.mean(), 1e-6),
        Difference(label, "log-likelihood of a frame", np.abs(likelihood - oracle.score_samples(x)).max(), 1e-4),
    ]


def em_step(iterations: int = 15) -> list[Difference]:
    """From equal parameters one step; and so many, in nats per held-out frame."""
    z = test_em.blobs()
    start = test_em.start(z, 6)
    ours = em.maximisation(em.expectation(start, [z]))
    oracle = test_em.sklearn_fit(z, start, 1)
    pairs = {
        "weights": (ours.weights, oracle.weights_),
        "means": (ours.means, oracle.means_),
        "variances": (ours.variances, oracle.covariances_),
    }
    with mock.patch.object(em, "initialise", lambda *_: test_em.start(z, 12)):
        options = em.Options(12, iterations=iterations, tolerance=0)
        fitted = em.fit([z[:2_500]], z, z[2_500:], options).heldout[-1]
    whole = test_em.sklearn_fit(z[:2_500], test_em.start(z, 12), iterations).score(z[2_500:].astype(np.float64))
    return [Difference("GMM, one EM step", what, np.abs(a - b).max(), 1e-5) for what, (a, b) in pairs.items()] + [
        Difference(f"GMM, {iterations} EM steps", "held-out log-likelihood", abs(fitted - whole), 1e-3)
    ]


def lloyd_steps(steps: int = 7) -> list[Difference]:
    """From the same centroids; assignments are those to the centroids after the last step."""
    z, label = test_lloyd.blobs(), f"k-means, {steps} Lloyd steps"
    init = z[:6].astype(np.float64)
    with mock.patch.object(lloyd, "kmeans_plus_plus", lambda *_: init.copy()):
        options = lloyd.Options(6, iterations=steps, tolerance=0)
        centroids = lloyd.fit(test_lloyd.in_chunks(z), z, z[:100], options).centroids
    oracle = sklearn.cluster.KMeans(6, init=init, n_init=1, max_iter=steps, tol=0, algorithm="lloyd")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        oracle.fit(z.astype(np.float64))
    labels = np.square(z[:, None] - centroids).sum(-1).argmin(-1)
    inertia = lloyd.inertia(centroids, z) * len(z)
    return [
        Difference(label, "assignments", np.sum(labels != oracle.labels_), 0),
        Difference(label, "centroids", np.abs(centroids - oracle.cluster_centers_).max(), 1e-5),
        Difference(label, "inertia, relative", abs(inertia / oracle.inertia_ - 1), 1e-5),
    ]


def features() -> list[Difference]:
    """Of a second with loud and quiet parts, at level 1; librosa's are computed in float64."""
    audio = toy_audio(1, 16_000)[0]
    audio /= np.sqrt(np.mean(audio**2))
    pairs = {
        "log-mel": (spectral.log_mel(audio), librosa_log_mel(audio, 80).T),
        "MFCC with deltas": (spectral.mfcc(audio), librosa_mfcc(audio)),
        "MFCC, deltas at 100 Hz": (spectral.mfcc100(audio), librosa_mfcc(audio, 160, 97)[::2]),
    }
    return [Difference("features", what, np.abs(np.asarray(a) - b).max(), 1e-4) for what, (a, b) in pairs.items()]
