"""CTC against a sum over all paths; decoding and distances against plain loops."""

import itertools
from collections import defaultdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_speech.nn import ctc
from jepa_speech.text.errors import character_errors

T, V = 5, 3
ctc_loss, best_path, edit_distance = (jax.jit(f) for f in (ctc.ctc_loss, ctc.best_path, ctc.edit_distance))


def collapsed(path) -> tuple[int, ...]:
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol)


def by_brute_force(log_p: np.ndarray) -> dict[tuple[int, ...], float]:
    """Text -> its probability, summed over every path of log_p (T, V)."""
    found: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(log_p.shape[1]), repeat=len(log_p)):
        found[collapsed(path)] += float(np.exp(sum(log_p[t, symbol] for t, symbol in enumerate(path))))
    return found


@pytest.fixture(scope="module")
def case():
    """Every text of at most three symbols of two, and frames of every length."""
    random = np.random.default_rng(0)
    texts = [text for n in range(4) for text in itertools.product((1, 2), repeat=n)]
    rows = [(text, frames) for text in texts for frames in range(1, T + 1)]
    ids = np.array([[*text, 0, 0, 0][:3] for text, _ in rows])
    lengths, frame_lengths = np.array([len(text) for text, _ in rows]), np.array([frames for _, frames in rows])
    logits = jnp.asarray(2 * random.normal(size=(len(rows), T, V)), jnp.float32)
    return logits, frame_lengths, ids, lengths


def test_loss_is_minus_log_of_the_sum_over_all_paths(case):
    logits, frame_lengths, ids, lengths = case
    nats, feasible = ctc_loss(*case)
    log_p = np.asarray(jax.nn.log_softmax(logits))
    for row, count in enumerate(frame_lengths):
        p = by_brute_force(log_p[row, :count]).get(tuple(ids[row, : lengths[row]].tolist()), 0)
        assert feasible[row] == (p > 0), row
        np.testing.assert_allclose(nats[row], -np.log(p) if p else 0, rtol=1e-5, err_msg=str(row))
    assert 0 < feasible.sum() < len(feasible)


def test_probabilities_of_all_texts_sum_to_one():
    texts = sorted({collapsed(path) for path in itertools.product(range(V), repeat=T)})
    ids = np.array([[*text, *[0] * T][:T] for text in texts])
    logits = jnp.tile(jax.random.normal(jax.random.PRNGKey(1), (1, T, V)), (len(texts), 1, 1))
    nats, feasible = ctc_loss(logits, jnp.full(len(texts), T), ids, np.array([len(text) for text in texts]))
    assert feasible.all()
    np.testing.assert_allclose(np.exp(-nats).sum(), 1, rtol=1e-5)


def test_gradient_is_finite_and_none_where_there_is_no_path_or_only_padding(case):
    _, frame_lengths, _, _ = case
    gradient = np.asarray(jax.jit(jax.grad(lambda x: ctc.ctc_loss(x, *case[1:])[0].sum()))(case[0]))
    feasible = np.asarray(ctc_loss(*case)[1]) > 0
    assert np.isfinite(gradient).all() and not gradient[~feasible].any()
    assert not gradient[np.arange(T) >= frame_lengths[:, None]].any()
    assert np.abs(gradient[feasible]).max() > 0.1


def test_best_path_takes_out_repeats_then_blanks():
    random = np.random.default_rng(2)
    path, frame_lengths = random.integers(0, V, (16, 9)), random.integers(1, 10, 16)
    ids, lengths = best_path(jax.nn.one_hot(path, V), frame_lengths)
    for row, count in enumerate(frame_lengths):
        assert tuple(ids[row, : lengths[row]].tolist()) == collapsed(path[row, :count].tolist())
        assert not ids[row, lengths[row] :].any()


def test_edit_distance_counts_what_jiwer_counts():
    random = np.random.default_rng(3)
    a, b = random.integers(0, 3, (32, 6)), random.integers(0, 3, (32, 4))
    n, m = random.integers(0, 7, 32), random.integers(0, 5, 32)
    found = edit_distance(a, n, b, m)
    for row in range(32):
        hypothesis, reference = ("".join("xyz"[i] for i in ids) for ids in (a[row, : n[row]], b[row, : m[row]]))
        assert found[row] == character_errors(reference, hypothesis)[0]
