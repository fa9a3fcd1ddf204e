"""Symbols and their numbers: characters of a text, phones, or characters and the marks of slots.

Number 0 is CTC's blank, 1 whatever training never showed, and the symbols follow in the order of their code points, so
that the same texts always give the same numbers.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

BLANK, UNKNOWN, FIRST = range(3)
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # how the unknown symbol is written


def normal(text: str) -> str:
    """A text as it is learnt and scored: lower case, composed (NFC), one space between words. Punctuation stays."""
    return " ".join(unicodedata.normalize("NFC", text.lower()).split())


@dataclass(frozen=True)
class Vocabulary:
    """symbols: distinct, without the blank and the unknown."""

    blank: ClassVar[int] = BLANK  # the class of CTC's blank
    symbols: tuple[str, ...]

    @classmethod
    def of(cls, sequences: Iterable[Iterable[str]]) -> "Vocabulary":
        """All symbols that stand in the sequences; a string is a sequence of characters."""
        found: set[str] = set()
        for sequence in sequences:
            found.update(sequence)
        return cls(tuple(sorted(found)))

    def __len__(self) -> int:
        """How many classes CTC has."""
        return FIRST + len(self.symbols)

    def encode(self, sequence: Iterable[str]) -> np.ndarray:
        """U symbols -> (U,) int32."""
        return np.array([self._numbers.get(symbol, UNKNOWN) for symbol in sequence], np.int32)

    def spell(self, sequence: Iterable[str]) -> list[int] | None:
        """The numbers of the symbols; None if one of them is unknown."""
        numbers = self.encode(sequence).tolist()
        return None if UNKNOWN in numbers else numbers

    def decode(self, ids: Sequence[int]) -> list[str]:
        """(U,) numbers, none of them the blank -> U symbols."""
        return [self.symbols[i - FIRST] if i >= FIRST else REPLACEMENT for i in ids]

    def of_path(self, path: np.ndarray) -> list[str]:
        """The symbols of a CTC path (T,): repeats taken out, then blanks."""
        new = np.diff(path, prepend=-1) != 0
        return self.decode(path[new & (path != BLANK)])

    def greedy(self, emissions: np.ndarray) -> list[str]:
        """The symbols of the likeliest path of (T, V) log probabilities."""
        return self.of_path(emissions.argmax(-1))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {symbol: number for number, symbol in enumerate(self.symbols, FIRST)}
