"""Beam search of words from CTC outputs with an n-gram language model, by flashlight-text (the extra [lm]).

    argmax over words w:  max over paths of w Σ_t log p(path_t | t)  +  α log10 P(w)  +  β |w|

P is the language model's probability, including the end of the sentence. A path of w writes its characters with spaces
between words. Only words of the language model can be found. α and β are those of SUPERB (Yang et al. 2021, arXiv
2105.01051).
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
    """Options of the search.

    lm: an ARPA file · size: number of hypotheses · threshold: hypotheses this many nats below the best are dropped ·
    lm_weight: α · word_score: β.
    """

    lm: str
    size: int = 50
    threshold: float = 25.0
    lm_weight: float = 2.0
    word_score: float = -1.0

    def check(self) -> None:
        """Raises UserError if flashlight-text is missing, or `lm` is not an ARPA file. Called before any long work."""
        if importlib.util.find_spec("flashlight") is None:
            raise UserError("flashlight-text, which does the beam search, is missing: pip install flashlight-text")
        if next(words(self.lm), None) is None:
            raise UserError(f"{self.lm}: this ARPA language model has no words")


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
    """Beam search over the words of a language model, for one vocabulary.

    Raises UserError if flashlight-text is missing, the file is not an ARPA model, or none of its words can be spelled.
    """

    def __init__(self, beam: Beam, vocabulary: Vocabulary | Tokens) -> None:
        beam.check()
        from flashlight.lib.text import decoder
        from flashlight.lib.text.decoder.kenlm import KenLM
        from flashlight.lib.text.dictionary import Dictionary

        # A word's spelling ends with a space.
        spelled = ((word, vocabulary.spell(normal(word) + SPACE)) for word in words(beam.lm))
        spellings = {word: spelling for word, spelling in spelled if spelling is not None}
        if not spellings:
            raise UserError(
                f"{beam.lm}: none of its words can be spelled with the characters {''.join(vocabulary.symbols)!r}"
            )
        self.spoken = [normal(word) for word in spellings]
        dictionary = Dictionary([*spellings, "<unk>"])
        try:
            model = KenLM(beam.lm, dictionary)
        except RuntimeError as error:
            why = " ".join(str(error).split())
            raise UserError(f"{beam.lm}: KenLM cannot read this language model: {why}") from error
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
        """Returns the text of log probabilities (T, V) of the vocabulary's classes; "" if no words are found."""
        # The last word must end with a space, too: one more frame, which costs nothing.
        closing = np.full((1, log_probs.shape[1]), -1e30, np.float32)
        closing[0, self.space] = 0
        emissions = np.ascontiguousarray(np.concatenate([log_probs.astype(np.float32), closing]))
        found = self._search.decode(emissions.ctypes.data, *emissions.shape)
        return SPACE.join(self.spoken[number] for number in found[0].words if number >= 0) if found else ""


def words(path: str | Path) -> Iterator[str]:
    """Yields the words in the unigrams of an ARPA file, except the marks of begin, end and unknown words.

    Raises UserError if the file cannot be read or is not an ARPA model.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            lines = (line.strip() for line in file)
            if r"\1-grams:" not in lines:
                raise UserError(rf"{path}: not an ARPA language model: the line \1-grams: is missing")
            for line in lines:
                if line.startswith("\\"):
                    return
                fields = line.split()  # log10 probability, the word, log10 back-off weight
                if len(fields) > 1 and not fields[1].startswith("<"):
                    yield fields[1]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not an ARPA language model but a binary file; unpack it first") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
