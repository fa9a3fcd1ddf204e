"""The oracle of BEST-RQ's quantiser at a toy size, and that it sees a wrong axis."""

import jax
import pytest

pytest.importorskip("torch")
pytest.importorskip("vector_quantize_pytorch")

from parity import random_projection, table

import jepa_speech.nn.random_projection


@pytest.mark.parametrize("books", [1, 3])
def test_codes_are_theirs(books):
    assert all(map(table.passes, random_projection.codes(24, books, 64, 8, 100, "")))


def test_codes_of_length_1_over_another_axis_show(monkeypatch):
    """The mistake of SpeechBrain's first version, on the codebook."""
    other = lambda x: x / jax.numpy.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    monkeypatch.setattr(jepa_speech.nn.random_projection, "unit_length", other)
    assert not any(map(table.passes, random_projection.codes(24, 1, 64, 8, 100, "")))
