"""Tokens of a CTC layer: which classes a text has, and which text a path of classes is."""

from dataclasses import replace

import numpy as np
import pytest

from jepa_speech.text.tokens import Tokens
from jepa_speech.text.vocabulary import REPLACEMENT

PUBLISHED = Tokens(("<pad>", "<s>", "</s>", "<unk>", "|", "E", "T", "'", ""), "<pad>", "<unk>", "|")


def classes(tokens: Tokens, text: str) -> list[str]:
    return [tokens.tokens[number] for number in tokens.encode(text)]


def test_characters_of_a_run_keep_their_numbers():
    """Blank 0, unknown 1, then the characters in order: as checkpoints of earlier versions have them."""
    tokens = Tokens.of(" 'ab")
    assert tokens.encode("a b'x").tolist() == [4, 2, 5, 3, 1] and tokens.blank == 0 and len(tokens) == 6
    assert tokens.text_of(np.array([2, 4, 4, 0, 4, 1, 1, 2, 0, 2, 5, 2])) == f"aa{REPLACEMENT}  b"
    assert tokens.spell("ab a") == [4, 5, 2, 4] and tokens.spell("xa") is None


def test_a_bar_and_the_replacement_character_may_be_characters():
    tokens = Tokens.of(f" a|{REPLACEMENT}")
    ids = tokens.encode(f"a |{REPLACEMENT}x")
    assert ids.tolist() == [3, 2, 4, 5, 1] and tokens.text_of(ids) == f"a |{REPLACEMENT}<unk>"


@pytest.mark.parametrize(
    ("tokens", "text", "expected"),
    [
        (PUBLISHED, "te t'", ["T", "E", "|", "T", "'"]),  # texts are in lower case, these tokens are not
        (PUBLISHED, "tx|t", ["T", "<unk>", "<unk>", "T"]),  # the delimiter stands for a space alone
        (Tokens(("_", "A", "a", "b"), "_"), "aab", ["a", "a", "b"]),
        (Tokens(("_", "c", "h", "ch", "chh"), "_"), "chchhc", ["ch", "chh", "c"]),
        (Tokens(("_", "a"), "_"), "a xa", ["a", "a"]),  # no token for unknown characters
        (Tokens(("_", "a"), "_", "_"), "xa", ["a"]),  # and none of its own
        (Tokens(("_", "a", "[UNK]"), "_", "[UNK]", "|"), "a a", ["a", "[UNK]", "a"]),  # no delimiter
        (Tokens(("<b>", "<", "b", ">"), "<b>"), "<b>", ["<", "b", ">"]),  # a text is no blank
        (Tokens(("_", "\u00c9"), "_"), "\u00e9", ["\u00c9"]),
        (
            Tokens(("_", ".*", "a|b", "a", "(", "\n"), "_"),
            "a|ba.*(\n.*",
            ["a|b", "a", ".*", "(", "\n", ".*"],
        ),  # no patterns
    ],
)
def test_a_text_becomes_classes(tokens, text, expected):
    assert classes(tokens, text) == expected


@pytest.mark.parametrize(
    ("settings", "path", "text"),
    [
        ({}, [], ""),
        ({}, [0, 0, 0], ""),
        ({}, [4, 5, 5, 0, 5, 6, 4, 0, 4, 6, 4], "EET  T"),
        ({}, [3, 8, 8, 5, 1], "<unk>E<s>"),  # a class without a token is the unknown token, and repeats it
        ({"lower": True}, [5, 4, 3], "e <unk>"),
        ({"clean_up": True}, [5, 4, 7, 4, 6], "E'T"),
        ({"space": "_"}, [5, 4, 6, 4], "E_T_"),
        ({"unknown_token": ""}, [5, 8, 5], "EE"),
        ({"delimiter_token": ""}, [5, 4, 6], "E|T"),
    ],
)
def test_a_path_becomes_a_text(settings, path, text):
    tokens = replace(PUBLISHED, **settings)
    assert tokens.text_of(np.array(path, int)) == text
    assert tokens.greedy(np.eye(len(tokens))[np.array(path, int)]) == text
