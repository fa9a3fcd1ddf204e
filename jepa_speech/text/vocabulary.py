"""Symbols and their numbers: characters of a text, phones, or characters and slot marks.

Number 0 is CTC's blank, 1 any symbol that the training data lack. The symbols follow in the order of their code points,
so that the same texts always give the same numbers.
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
    """Normalises a text for training and scoring: lower case, NFC, one space between words. Punctuation is kept."""
    return " ".join(unicodedata.normalize("NFC", text.lower()).split())


@dataclass(frozen=True)
class Vocabulary:
    """The numbers of `symbols`, which are distinct and exclude the blank and the unknown symbol."""

    blank: ClassVar[int] = BLANK  # the class of CTC's blank
    symbols: tuple[str, ...]

    @classmethod
    def of(cls, sequences: Iterable[Iterable[str]]) -> "Vocabulary":
        """Makes a vocabulary of all symbols in the sequences. A string is a sequence of characters."""
        found: set[str] = set()
        for sequence in sequences:
            found.update(sequence)
        return cls(tuple(sorted(found)))

    def __len__(self) -> int:
        """The number of CTC classes."""
        return FIRST + len(self.symbols)

    def encode(self, sequence: Iterable[str]) -> np.ndarray:
        """Returns the numbers (U,) int32 of U symbols."""
        return np.array([self._numbers.get(symbol, UNKNOWN) for symbol in sequence], np.int32)

    def spell(self, sequence: Iterable[str]) -> list[int] | None:
        """Returns the numbers of the symbols, or None if one is unknown."""
        numbers = self.encode(sequence).tolist()
        return None if UNKNOWN in numbers else numbers

    def decode(self, ids: Sequence[int]) -> list[str]:
        """Returns the symbols of U numbers, none of which is the blank."""
        return [self.symbols[i - FIRST] if i >= FIRST else REPLACEMENT for i in ids]

    def of_path(self, path: np.ndarray) -> list[str]:
        """Returns the symbols of a CTC path (T,): repeated symbols are merged, then blanks removed."""
        new = np.diff(path, prepend=-1) != 0
        return self.decode(path[new & (path != BLANK)])

    def greedy(self, emissions: np.ndarray) -> list[str]:
        """Returns the symbols of the most likely path of log probabilities (T, V)."""
        return self.of_path(emissions.argmax(-1))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {symbol: number for number, symbol in enumerate(self.symbols, FIRST)}
