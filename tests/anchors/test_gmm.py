import jax
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture
from support.random_anchors import make_gmm

from jepa_speech.anchors import gmm
from jepa_speech.anchors.load import load_anchor
from jepa_speech.errors import UserError
from jepa_speech.features import spectral


def sample(anchor, count, seed=1):
    random = np.random.default_rng(seed)
    k = random.choice(anchor.components, count)
    z = anchor.means[k] + np.sqrt(anchor.variances[k]) * random.normal(size=(count, anchor.dim))
    return (z * anchor.scale + anchor.shift).astype(np.float32)


def test_posteriors_and_likelihood_are_sklearns():
    anchor = make_gmm(components=64)
    x = sample(anchor, 2_000)
    oracle = anchor.to_sklearn()
    difference = np.abs(gmm.posteriors(anchor.arrays(), x) - oracle.predict_proba(x))
    assert difference.mean() <= 1e-6
    assert difference.max() <= 5e-3
    likelihood = jax.nn.logsumexp(gmm.log_joint(anchor.arrays(), x), axis=-1)
    np.testing.assert_allclose(likelihood, oracle.score_samples(x), rtol=0, atol=1e-4)


def test_round_trip_through_sklearn():
    x = sample(make_gmm(components=4), 500)
    mixture = GaussianMixture(4, covariance_type="diag", random_state=0, max_iter=5, tol=1e9).fit(x)
    anchor = gmm.from_sklearn(mixture, "mfcc")
    np.testing.assert_allclose(gmm.posteriors(anchor.arrays(), x), mixture.predict_proba(x), atol=1e-4)
    back = anchor.to_sklearn()
    np.testing.assert_allclose(back.means_, mixture.means_, atol=1e-5)
    np.testing.assert_allclose(back.covariances_, mixture.covariances_, rtol=1e-5)
    with pytest.raises(UserError, match="full"):
        gmm.from_sklearn(GaussianMixture(2, covariance_type="full"), "mfcc")


def test_temperature_divides_the_log_joint():
    anchor = make_gmm(temperature=3.0)
    x = sample(anchor, 50)
    joint = np.asarray(gmm.log_joint(anchor.arrays(), x), np.float64) / 3
    expected = np.exp(joint - joint.max(-1, keepdims=True))
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(gmm.posteriors(anchor.arrays(), x), expected, atol=1e-5)


def test_save_and_load(tmp_path):
    anchor = make_gmm(normalize="mean", temperature=2.5)
    anchor.save(tmp_path / "gmm.npz")
    loaded = load_anchor(tmp_path / "gmm.npz")
    assert loaded.fingerprint == anchor.fingerprint
    assert (loaded.features, loaded.normalize, loaded.temperature) == ("mfcc", "mean", 2.5)
    assert [file.name for file in tmp_path.iterdir()] == ["gmm.npz"]
    assert make_gmm(normalize="mean", temperature=2.0).fingerprint != anchor.fingerprint


def test_fingerprints_stay_what_they_were():
    """Else every labelled store would ask to be labelled again."""
    known = "51a495251c97f2907cc8363547ea3c11ba56d988496d4dde97f02494052061c0"
    assert make_gmm(components=3, normalize="mean", temperature=2.5).fingerprint == known


def test_a_rotated_mixture_is_the_density_of_the_features_themselves():
    """And a whitened one: in one dimension after another, as scipy has its normal distributions."""
    random = np.random.default_rng(4)
    rotation = random.normal(size=(5, 5)).astype(np.float32)
    anchor = make_gmm(components=3, dim=5, features="pca", rotation=rotation)
    x = random.normal(size=(40, 5)).astype(np.float32) * anchor.scale + anchor.shift
    densities = [
        multivariate_normal(
            anchor.shift + np.linalg.solve(rotation.T.astype(np.float64), mean) * anchor.scale,
            np.diag(anchor.scale)
            @ np.linalg.inv(rotation @ np.diag(1 / variance) @ rotation.T)
            @ np.diag(anchor.scale),
        ).logpdf(x)
        + np.log(weight)
        for mean, variance, weight in zip(anchor.means, anchor.variances, anchor.weights, strict=True)
    ]
    np.testing.assert_allclose(gmm.log_joint(anchor.arrays(), x), np.stack(densities, -1), rtol=1e-4, atol=1e-3)
    with pytest.raises(ValueError, match="rotated"):
        anchor.to_sklearn()
    blank = make_gmm(components=3, dim=5, features="pca")  # what a checkpoint's own is read into
    assert jax.tree.map(np.shape, blank.arrays()) == jax.tree.map(np.shape, anchor.arrays())
    assert blank.fingerprint != anchor.fingerprint


@pytest.mark.parametrize(("kind", "normalize"), [("logmel", "level"), ("mfcc", "level"), ("mfcc", "mean")])
def test_frame_posteriors_of_a_crop_are_those_of_the_utterance(kind, normalize):
    """But for the frames at the crop's edges that deltas distort; and at any gain, audio being level-normalised."""
    anchor = make_gmm(dim=spectral.DIMS[kind], features=kind, normalize=normalize, temperature=5.0)
    arrays = anchor.arrays()
    random = np.random.default_rng(2)
    wave = random.normal(size=16_000) * np.exp(np.sin(np.arange(16_000) / 900))

    def posteriors(wave, start=0, stop=None):
        audio = (wave / np.sqrt(np.mean(wave**2))).astype(np.float32)
        mean = spectral.extract(kind, audio).mean(-2) if normalize == "mean" else None
        return np.asarray(gmm.frame_posteriors(arrays, kind, audio[start:stop], mean=mean))

    whole = posteriors(wave)
    for gain in (-6, 6):
        np.testing.assert_allclose(posteriors(wave * 10 ** (gain / 20)), whole, atol=1e-3)
    crop = posteriors(wave, 320 * 7, 320 * 7 + 400 + 320 * 20)
    edge = spectral.delta_edge(kind)
    np.testing.assert_allclose(crop[edge : 21 - edge], whole[7 + edge : 28 - edge], atol=1e-3)
