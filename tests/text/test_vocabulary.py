"""Symbols and their numbers."""

import numpy as np

from jepa_speech.text.vocabulary import BLANK, FIRST, UNKNOWN, Vocabulary, normal


def test_round_trip_and_what_training_never_showed():
    vocabulary = Vocabulary.of(["so be it", "it's"])
    assert vocabulary.symbols == tuple(" 'beiost") and len(vocabulary) == 10
    ids = vocabulary.encode("be it!")
    assert ids.dtype == np.int32 and BLANK not in ids and ids[-1] == UNKNOWN and (ids[:-1] >= FIRST).all()
    assert "".join(vocabulary.decode(ids)) == "be it\N{REPLACEMENT CHARACTER}"
    assert Vocabulary.of(["it's", "so be it"]) == vocabulary  # whatever the order


def test_symbols_longer_than_a_character():
    vocabulary = Vocabulary.of([["AA", "B"], ["B", "<city>"]])
    assert vocabulary.decode(vocabulary.encode(["<city>", "AA"])) == ["<city>", "AA"]


def test_normal():
    assert normal("  Grüße,\tAn  ALLE\n") == "grüße, an alle"
    assert normal("e\N{COMBINING ACUTE ACCENT}") == "é" and normal(" ") == ""


def test_symbols_of_a_path():
    vocabulary = Vocabulary.of(["ab"])
    a, b = vocabulary.encode("ab").tolist()
    assert "".join(vocabulary.of_path(np.array([0, a, a, 0, a, b, b, 0, 0]))) == "aab"
    assert vocabulary.of_path(np.array([], int)) == [] == vocabulary.of_path(np.zeros(3, int))
