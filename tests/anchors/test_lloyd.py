from dataclasses import replace

import numpy as np
import pytest
import sklearn.cluster

from jepa_speech.anchors import frames, lloyd
from jepa_speech.errors import UsageError


def blobs(count=3_000, dim=5, clusters=6, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(scale=3, size=(clusters, dim))[random.integers(clusters, size=count)]
    x = x + random.normal(size=(count, dim))
    return (x - x.mean(0)).astype(np.float32)


def in_chunks(z, size=700):
    return [z[start : start + size] for start in range(0, len(z), size)]


def start_at(monkeypatch, centroids):
    monkeypatch.setattr(lloyd, "kmeans_plus_plus", lambda *_: np.array(centroids, np.float64))


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(frames, "BATCH", 512)  # several batches, the last one filled up


def test_lloyd_steps_are_sklearns(monkeypatch):
    z = blobs()
    init = z[:6].astype(np.float64)
    start_at(monkeypatch, init)
    for steps in (1, 7):
        result = lloyd.fit(in_chunks(z), z, z[:100], lloyd.Options(6, iterations=steps, tolerance=0))
        oracle = sklearn.cluster.KMeans(6, init=init, n_init=1, max_iter=steps, tol=0, algorithm="lloyd")
        with np.errstate(all="ignore"):
            oracle.fit(z.astype(np.float64))
        np.testing.assert_allclose(result.centroids, oracle.cluster_centers_, atol=1e-5)
        assert lloyd.inertia(result.centroids, z) * len(z) == pytest.approx(oracle.inertia_, rel=1e-5)
        near = np.square(z[:, None] - result.centroids).sum(-1).argmin(-1)
        np.testing.assert_array_equal(near, oracle.labels_)


def minibatch_steps(z, init, batches, pass_over=lloyd.minibatch_pass):
    """Every chunk is one batch."""
    result = lloyd.Fit(init.copy(), np.zeros(len(init)))
    pass_over(result, batches, 10_000, np.random.default_rng(0))
    return result.centroids, result.seen


def check_minibatch_is_sklearns(pass_over):
    z = blobs()
    init = z[:6].astype(np.float64)
    batches = [z[start : start + 300] for start in range(0, 1_500, 300)]
    centroids, seen = minibatch_steps(z, init, batches, pass_over)
    oracle = sklearn.cluster.MiniBatchKMeans(6, init=init, n_init=1, reassignment_ratio=0, batch_size=300)
    for batch in batches:
        oracle.partial_fit(batch.astype(np.float64))
    np.testing.assert_allclose(centroids, oracle.cluster_centers_, atol=1e-5)
    np.testing.assert_allclose(seen, oracle._counts)


def forgetful(result, chunks, size, random):
    """Each batch's mean, whatever was there before."""
    for chunk in chunks:
        sums = lloyd.nearest_sums(result.centroids, [chunk])
        result.centroids = lloyd.means(sums, result.centroids)
        result.seen = result.seen + sums.counts


def test_minibatch_steps_are_sklearns():
    check_minibatch_is_sklearns(lloyd.minibatch_pass)
    with pytest.raises(AssertionError):
        check_minibatch_is_sklearns(forgetful)


@pytest.mark.parametrize("algorithm", ["lloyd", "minibatch"])
def test_a_fit_finds_the_clusters_and_says_how_well(algorithm):
    z, seen = blobs(), []
    options = lloyd.Options(6, algorithm, batch=256, seed=3)  # one that seeds every blob
    result = lloyd.fit(in_chunks(z[:2_500]), z[:2_500], z[2_500:], options, lambda fit: seen.append(fit.heldout[-1]))
    oracle = sklearn.cluster.KMeans(6, n_init=10, random_state=0).fit(z[:2_500])
    assert lloyd.inertia(result.centroids, z[:2_500]) == pytest.approx(oracle.inertia_ / 2_500, rel=0.02)
    assert len(result.inertia) == len(result.heldout) == len(seen) < options.iterations  # it converged
    assert result.heldout == seen
    assert result.heldout[-1] == pytest.approx(-oracle.score(z[2_500:]) / 500, rel=0.02)
    if algorithm == "lloyd":
        assert (np.diff(result.inertia) <= 1e-5).all()
    again = lloyd.fit(in_chunks(z[:2_500]), z[:2_500], z[2_500:], options)
    np.testing.assert_array_equal(again.centroids, result.centroids)
    other = lloyd.fit(in_chunks(z[:2_500]), z[:2_500], z[2_500:], replace(options, seed=4))
    assert not np.array_equal(other.centroids, result.centroids)


def test_chunks_do_not_matter():
    z = blobs()
    whole, parts = (lloyd.fit(p, z, z[:9], lloyd.Options(6, iterations=4)) for p in ([z], in_chunks(z, 77)))
    np.testing.assert_allclose(whole.centroids, parts.centroids, atol=1e-5)


@pytest.mark.parametrize("algorithm", ["lloyd", "minibatch"])
def test_a_centroid_without_frames_is_seeded_again(monkeypatch, algorithm):
    z, init = blobs(clusters=4), blobs(clusters=4)[:4].astype(np.float64)
    init[[1, 3]] = 1e3
    seed = lloyd.kmeans_plus_plus
    calls = []

    def lost_at_first(*arguments):
        calls.append(arguments)
        return init if len(calls) == 1 else seed(*arguments)

    monkeypatch.setattr(lloyd, "kmeans_plus_plus", lost_at_first)
    result = lloyd.fit(in_chunks(z), z, z[:9], lloyd.Options(4, algorithm, batch=500))
    assert result.reseeded == 2
    assert result.history[-1]["alive"] == 4
    assert lloyd.nearest_sums(result.centroids, [z]).counts.min() > 100


def test_minibatches_hold_every_frame_once_in_another_order():
    z = np.arange(1_000, dtype=np.float32)[:, None]
    parts = list(lloyd.minibatches(z, 150, np.random.default_rng(0)))
    assert [len(part) for part in parts] == [150] * 6 + [100]
    drawn = np.concatenate(parts)[:, 0]
    np.testing.assert_array_equal(np.sort(drawn), z[:, 0])
    assert np.corrcoef(drawn, np.arange(1_000))[0, 1] < 0.2


def test_more_components_than_frames_is_refused():
    z = blobs(count=10)
    with pytest.raises(UsageError, match=r"11 components .* 10"):
        lloyd.fit([z], z, z, lloyd.Options(11))
    assert lloyd.fit([z], z, z, lloyd.Options(10, iterations=2)).history[-1]["usage_entropy"] == pytest.approx(1)


def test_kmeans_plus_plus_spreads_as_sklearns_does():
    z = blobs(clusters=6)

    def cost(centres):
        return np.min(((z[:, None] - centres) ** 2).sum(-1), axis=1).mean()

    ours = np.median([cost(lloyd.kmeans_plus_plus(z, 6, np.random.default_rng(seed))) for seed in range(9)])
    plus_plus = sklearn.cluster.kmeans_plusplus
    oracle = np.median([cost(plus_plus(z, 6, random_state=seed, n_local_trials=1)[0]) for seed in range(9)])
    assert ours == pytest.approx(oracle, rel=0.3)
    assert len(lloyd.kmeans_plus_plus(np.ones((5, 2), np.float32), 3, np.random.default_rng(0))) == 3


def test_kmeans_plus_plus_goes_on_from_the_centres_it_is_given():
    z = np.concatenate([blobs(count=200, clusters=1), blobs(count=10, clusters=1) + 1_000])
    given = np.zeros((2, 5))
    centres = lloyd.kmeans_plus_plus(z, 3, np.random.default_rng(0), given)
    np.testing.assert_array_equal(centres[:2], given)
    assert np.linalg.norm(centres[2]) > 1_000
