"""Words from CTC by beam search with an n-gram language model: flashlight-text, of the extra [lm], does the searching.

    argmax over words w:  max over paths of w Σ_t log p(path_t | t)  +  α log10 P(w)  +  β |w|

P is the model's, the end of the sentence included; a path of w writes its characters with spaces between words. Only
words that the language model knows can be found. α and β are those of SUPERB (Yang et al. 2021, arXiv 2105.01051).
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jepa_speech.errors import UsageError, UserError
from jepa_speech.text.tokens import SPACE, Tokens
from jepa_speech.text.vocabulary import Vocabulary, normal


@dataclass(frozen=True)
class Beam:
    """How to search. lm: an ARPA file. size: hypotheses that are kept; of them none that is `threshold` nats below the
    best. lm_weight: α, word_score: β.
    """

    lm: str
    size: int = 50
    threshold: float = 25.0
    lm_weight: float = 2.0
    word_score: float = -1.0

    def check(self) -> None:
        """Raises UserError where flashlight-text is missing, or `lm` is no ARPA file: before any long work."""
        if importlib.util.find_spec("flashlight") is None:
            raise UserError("flashlight-text, which searches, is not installed: pip install flashlight-text")
        if next(words(self.lm), None) is None:
            raise UserError(f"{self.lm}: an ARPA language model without words")


def beam_of(lm: str | Path | None, size: int, lm_weight: float, word_score: float) -> Beam | None:
    """Returns how to search, checked, or None without a language model. size: the argument `beam` of those who search.

    Raises UsageError if no hypothesis would be kept, and what `Beam.check` raises.
    """
    if size < 1:
        raise UsageError(f"beam {size}: at least one hypothesis has to be kept")
    if not lm:
        return None
    beam = Beam(str(lm), size=size, lm_weight=lm_weight, word_score=word_score)
    beam.check()
    return beam


class WordBeam:
    """A search over the words of one language model, for one vocabulary.

    Raises UserError where flashlight-text is missing, the file is no ARPA model, or no word of it can be written.
    """

    def __init__(self, beam: Beam, vocabulary: Vocabulary | Tokens) -> None:
        beam.check()
        from flashlight.lib.text import decoder
        from flashlight.lib.text.decoder.kenlm import KenLM
        from flashlight.lib.text.dictionary import Dictionary

        # Each word is spelled with the space after it.
        spelled = ((word, vocabulary.spell(normal(word) + SPACE)) for word in words(beam.lm))
        spellings = {word: spelling for word, spelling in spelled if spelling is not None}
        if not spellings:
            raise UserError(f"{beam.lm}: none of its words is made of the characters {''.join(vocabulary.symbols)!r}")
        self.spoken = [normal(word) for word in spellings]
        dictionary = Dictionary([*spellings, "<unk>"])
        try:
            model = KenLM(beam.lm, dictionary)
        except RuntimeError as error:
            why = " ".join(str(error).split())
            raise UserError(f"{beam.lm}: not a language model that KenLM reads: {why}") from error
        self.space = int(vocabulary.encode(SPACE)[0])
        trie, start = decoder.Trie(len(vocabulary), self.space), model.start(False)
        for number, spelling in enumerate(spellings.values()):
            trie.insert(spelling, number, model.score(start, number)[1])
        trie.smear(decoder.SmearingMode.MAX)
        options = decoder.LexiconDecoderOptions(
            beam_size=beam.size,
            beam_size_token=len(vocabulary),
            beam_threshold=beam.threshold,
            lm_weight=beam.lm_weight,
            word_score=beam.word_score,
            unk_score=-np.inf,
            sil_score=0.0,
            log_add=False,
            criterion_type=decoder.CriterionType.CTC,
        )
        self._search: Any = decoder.LexiconDecoder(
            options, trie, model, self.space, vocabulary.blank, len(self.spoken), [], False
        )

    def __call__(self, log_probs: np.ndarray) -> str:
        """(T, V) logarithms of the probabilities of the vocabulary's numbers -> a text; "" where no words fit."""
        # A word ends with a space, and so must the last one: a frame more, at no cost.
        closing = np.full((1, log_probs.shape[1]), -1e30, np.float32)
        closing[0, self.space] = 0
        emissions = np.ascontiguousarray(np.concatenate([log_probs.astype(np.float32), closing]))
        found = self._search.decode(emissions.ctypes.data, *emissions.shape)
        return SPACE.join(self.spoken[number] for number in found[0].words if number >= 0) if found else ""


def words(path: str | Path) -> Iterator[str]:
    """The words of an ARPA file, as they stand in its unigrams, without the marks of begin, end and unknown."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            lines = (line.strip() for line in file)
            if r"\1-grams:" not in lines:
                raise UserError(rf"{path}: not an ARPA language model: it has no line \1-grams:")
            for line in lines:
                if line.startswith("\\"):
                    return
                fields = line.split()  # log10 p, the word, log10 of the weight of backing off
                if len(fields) > 1 and not fields[1].startswith("<"):
                    yield fields[1]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not an ARPA language model, but no text at all: unpack it first") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
