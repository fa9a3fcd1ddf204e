"""Dropout's draws: their rate, and independence of position, row, key and the other rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jepa_speech.nn.row_random import draw, draws, dropout, fold, table_draws, table_dropout, threshold

KEYS = jax.random.split(jax.random.PRNGKey(0), 8)
PLACES = jnp.arange(2**16, dtype=jnp.uint32)


def weak(first: jax.Array, second: jax.Array, place: jax.Array) -> jax.Array:
    """A broken twin: a linear congruence, keyed by addition."""
    return place * jnp.uint32(1664525) + first + second


def faults(draws) -> dict[str, float]:
    """The p-value of each check; draws of one key, of its neighbour, of the same keys' words exchanged."""
    words = jnp.arange(8, dtype=jnp.uint32)
    many = np.array(jax.vmap(lambda w: draws(w, w + 1, PLACES))(words))  # (8, 65536)
    high = many >> 24
    unit = many / 2**32
    n = many.shape[1]

    def correlation(a: np.ndarray, b: np.ndarray) -> float:
        return 2 * scipy.stats.norm.sf(abs(np.corrcoef(a, b)[0, 1]) * np.sqrt(len(a)))

    bits = (many[:, :, None] >> np.arange(32)) & 1
    return {
        "uniform": scipy.stats.chisquare(np.bincount(high.ravel(), minlength=256)).pvalue,
        "pairs": scipy.stats.chisquare(
            np.bincount((high[:, 1:] >> 4).ravel() * 16 + (high[:, :-1] >> 4).ravel(), minlength=256)
        ).pvalue,
        "neighbours": correlation(unit[0, 1:], unit[0, :-1]),
        "a row apart": correlation(unit[0, 780:], unit[0, :-780]),
        "keys": correlation(unit[0], unit[1]),
        "words": correlation(unit[1], np.array(draws(words[2], words[1], PLACES)) / 2**32),
        "bits": 2 * scipy.stats.norm.sf(np.abs(bits.mean((0, 1)) - 0.5).max() * 2 * np.sqrt(8 * n)) * 32,
    }


def test_draws_look_independent() -> None:
    found = faults(draws)
    assert min(found.values()) > 1e-4, found
    assert min(faults(weak).values()) < 1e-10


def table_faults(draw, rate: float) -> dict[str, float]:
    """The p-value of each check of tables of draws, 8 rows x 3 heads of 400 x 300, all places of a kind together."""
    left, right = table_draws(KEYS, 3, 400, 300)
    dropped = np.array(draw(left[..., None], right[:, None, None])) < int(threshold(rate))  # (8, 3, 400, 300)
    x = (dropped - rate) / np.sqrt(rate * (1 - rate))
    at = np.random.default_rng(0).permutation(300)
    rows, columns = x[:, :, 1:] * x[:, :, :-1], x[..., 1:] * x[..., :-1]
    found = {
        "rate": x,
        "neighbouring queries": rows,
        "neighbouring keys": columns,
        "heads": x[:, 1:] * x[:, :-1],
        "rows": x[1:] * x[:-1],
        "four corners": rows[..., 1:] * rows[..., :-1],
        "any four corners": rows[..., at[:150]] * rows[..., at[150:]],
    }
    return {name: 2 * scipy.stats.norm.sf(abs(y.sum()) / np.sqrt(y.size)) for name, y in found.items()}


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_a_table_of_draws_looks_independent(rate: float) -> None:
    found = table_faults(draw, rate)
    assert min(found.values()) > 1e-4, found
    assert min(table_faults(lambda left, right: left ^ right, rate).values()) < 1e-10  # without the products


def test_attention_s_dropout_is_by_rows() -> None:
    x = jnp.ones((8, 2, 30, 30))
    whole = table_dropout(x, 0.3, *table_draws(KEYS, 2, 30, 30))
    np.testing.assert_array_equal(whole[5:6], table_dropout(x[:1], 0.3, *table_draws(KEYS[5:6], 2, 30, 30)))
    np.testing.assert_allclose(whole[whole > 0], 1 / 0.7, rtol=1e-6)
    assert table_dropout(x, 0.3, None, None) is x


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(rate: float) -> None:
    out = np.array(dropout(jnp.ones((8, 300, 40)), rate, KEYS))
    kept = (out > 0).mean((1, 2))
    np.testing.assert_allclose(out[out > 0], 1 / (1 - rate), rtol=1e-6)
    assert np.abs(kept - (1 - rate)).max() < 4.5 * np.sqrt(rate * (1 - rate) / 12_000)
    assert len(np.unique(kept)) > 1  # rows have different draws


def test_a_row_keeps_its_draws_whatever_the_batch() -> None:
    x = jnp.ones((8, 50, 4))
    whole = dropout(x, 0.3, KEYS)
    np.testing.assert_array_equal(whole[5:6], dropout(x[:1], 0.3, KEYS[5:6]))
    assert not np.array_equal(whole, dropout(x, 0.3, fold(KEYS, 1)))
    assert dropout(x, 0.3, None) is x and dropout(x, 0.0, KEYS) is x


def test_threshold() -> None:
    assert int(threshold(0.25)) == 2**30
    assert int(threshold(1.0)) == 2**32 - 1
