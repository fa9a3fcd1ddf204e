"""Beam search with a language model, against all paths of all texts."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from support.language_models import arpa

from jepa_speech.errors import UserError
from jepa_speech.text.beam import Beam, WordBeam, words
from jepa_speech.text.tokens import Tokens
from jepa_speech.text.vocabulary import BLANK, UNKNOWN, Vocabulary, normal

pytest.importorskip("flashlight.lib.text", reason="flashlight-text, of the extra [lm], is not installed")

LETTERS = Vocabulary.of(" ab")
ONE = {"<s>": -99.0, "</s>": -0.8, "A": -0.5, "B": -0.7, "AB": -0.9, "BA": -1.4}  # log10 P(word)
TWO = {("<s>", "A"): -0.3, ("A", "BA"): -0.2, ("BA", "</s>"): -0.4, ("AB", "AB"): -0.1}
BACK = {"<s>": -0.2, "A": -0.6, "B": -0.1, "AB": -0.3, "BA": -0.5}  # log10 of the weight of backing off


def lm_score(text: list[str]) -> float:
    """log10 of a sentence with its end."""
    pairs = itertools.pairwise(["<s>", *(word.upper() for word in text), "</s>"])
    return sum(TWO.get(pair, BACK.get(pair[0], 0.0) + ONE[pair[1]]) for pair in pairs)


def by_all_paths(log_probs: np.ndarray, beam: Beam) -> tuple[str, float, float]:
    """The best text over the model's words by looking at every path, its score, and the next text's."""
    scores: dict[str, float] = {}
    spoken = {word.lower() for word in ONE if not word.startswith("<")}
    for path in itertools.product(range(len(LETTERS)), repeat=len(log_probs)):
        text = normal("".join(LETTERS.of_path(np.array(path))))
        if set(text.split()) <= spoken:
            acoustic = float(log_probs[np.arange(len(path)), path].sum())
            scores[text] = max(scores.get(text, -np.inf), acoustic)
    for text in scores:
        scores[text] += beam.lm_weight * lm_score(text.split()) + beam.word_score * len(text.split())
    best, second, *_ = sorted(scores.values(), reverse=True)
    return max(scores, key=scores.get), best, second


@pytest.mark.parametrize(("weight", "word_score"), [(0.0, 0.0), (1.0, 0.5), (2.0, -1.0)])
def test_it_finds_what_looking_at_every_path_finds(tmp_path, weight, word_score):
    path = arpa(tmp_path / "lm.arpa", ONE, TWO, BACK)
    beam = Beam(path, size=1000, threshold=1e3, lm_weight=weight, word_score=word_score)
    search, random, texts = WordBeam(beam, LETTERS), np.random.default_rng(0), set()
    for _ in range(15):
        logits = 3 * random.normal(size=(5, len(LETTERS)))
        log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        expected, best, second = by_all_paths(log_probs, beam)
        if best - second > 1e-4:
            assert search(log_probs) == expected
            texts.add(expected)
    assert len(texts) > 3 and any(" " in text for text in texts)


def test_the_language_model_decides_where_the_sound_does_not(tmp_path):
    path = arpa(tmp_path / "lm.arpa", ONE, TWO, BACK)
    either = np.log(np.full((1, len(LETTERS)), 1e-6))
    either[0, LETTERS.encode("ab")] = np.log([0.48, 0.52])
    greedy = LETTERS.of_path(either.argmax(1))
    assert greedy == ["b"] and WordBeam(Beam(path), LETTERS)(either) == "a"
    assert WordBeam(Beam(path, lm_weight=0.0), LETTERS)(either) == "b"


def test_it_searches_an_imported_vocabulary(tmp_path):
    """Tokens in upper case, and a blank that is not the first class: the same texts from the same probabilities."""
    path = arpa(tmp_path / "lm.arpa", ONE, TWO, BACK)
    ours = WordBeam(Beam(path), LETTERS)
    theirs = WordBeam(Beam(path), Tokens(("A", "B", "|", "<unk>", "<pad>"), "<pad>", "<unk>", "|"))
    random, texts = np.random.default_rng(0), set()
    for _ in range(10):
        log_probs = 3 * random.normal(size=(8, len(LETTERS)))
        texts.add(ours(log_probs))
        assert theirs(log_probs[:, [*LETTERS.encode("ab "), UNKNOWN, BLANK]]) == ours(log_probs)
    assert len(texts) > 3


def test_silence_is_no_words(tmp_path):
    silence = np.full((4, len(LETTERS)), -50.0)
    silence[:, BLANK] = 0
    assert WordBeam(Beam(arpa(tmp_path / "lm.arpa", ONE, TWO, BACK)), LETTERS)(silence) == ""


def test_words_that_cannot_be_written_are_never_found(tmp_path):
    path = arpa(tmp_path / "lm.arpa", ONE, TWO, BACK)
    assert list(words(path)) == ["A", "B", "AB", "BA"]
    only = Vocabulary.of(" a")
    search = WordBeam(Beam(path), only)
    assert search.spoken == ["a"]
    with pytest.raises(UserError, match="none of its words can be spelled with the characters ' x'"):
        WordBeam(Beam(path), Vocabulary.of(" x"))


def test_wrong_files(tmp_path):
    with pytest.raises(UserError, match=r"gone\.arpa: No such file"):
        WordBeam(Beam(str(tmp_path / "gone.arpa")), LETTERS)
    (tmp_path / "text").write_text("no model\n")
    with pytest.raises(UserError, match="1-grams: is missing"):
        WordBeam(Beam(str(tmp_path / "text")), LETTERS)
    (tmp_path / "lm.gz").write_bytes(b"\x1f\x8b\xff\xfe")
    with pytest.raises(UserError, match="unpack it first"):
        WordBeam(Beam(str(tmp_path / "lm.gz")), LETTERS)
    torn = Path(arpa(tmp_path / "torn.arpa", ONE, TWO, BACK))
    torn.write_text(torn.read_text().replace("ngram 2=4", "ngram 2=9"))
    with pytest.raises(UserError, match=r"torn\.arpa: KenLM cannot read this language model: "):
        WordBeam(Beam(str(torn)), LETTERS)
