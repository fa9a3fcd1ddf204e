"""Counts of errors against a plain dynamic programme."""

import numpy as np
import pytest

from jepa_speech.text.errors import character_errors, word_errors


def levenshtein(a, b) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


@pytest.mark.parametrize("seed", range(8))
def test_against_a_plain_loop(seed):
    random = np.random.default_rng(seed)
    a, b = (" ".join(random.choice(["a", "bb", "abc", "cab"], random.integers(1, 8))) for _ in range(2))
    assert word_errors(a, b) == (levenshtein(a.split(), b.split()), len(a.split()))
    assert character_errors(a, b) == (levenshtein(a, b), len(a))


def test_empty_sides():
    assert word_errors("", "x y") == (2, 0) and character_errors("", "x y") == (3, 0)
    assert word_errors("x y", "") == (2, 2) and character_errors("x y", "") == (3, 3)
    assert word_errors("", "") == (0, 0)
