"""The token of each class of a CTC layer; texts to classes and back, as in transformers' Wav2Vec2CTCTokenizer."""

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np

from jepa_speech.text.vocabulary import REPLACEMENT

SPACE = " "
# Replacements of `clean_up`, in this order.
CLEANED = {" .": ".", " ?": "?", " !": "!", " ,": ",", " ' ": "'"} | {
    f" {ending}": ending for ending in ("n't", "'m", "'s", "'ve", "'re")
}


@dataclass(frozen=True)
class Tokens:
    """Config section `vocabulary` of the objective `ctc`; an imported CTC layer sets it."""

    tokens: tuple[str, ...]  # one for each class; a class without a token has "" and is written as unknown_token
    blank_token: str  # CTC's blank
    unknown_token: str = ""  # replaces characters that no token writes; empty: they are left out
    delimiter_token: str = ""  # the token between words; empty: there is none
    space: str = SPACE  # how delimiter_token is written
    lower: bool = False  # whether texts are written in lower case
    clean_up: bool = False  # whether the space before punctuation and English contractions is removed

    @classmethod
    def of(cls, characters: str) -> "Tokens":
        """Makes the blank, a token for unknown characters, and one token for each of the characters, in this order."""
        # "|" and "<pad>" are the defaults of transformers.
        delimiter = SPACE if "|" in characters else "|"
        unknown = "<unk>" if REPLACEMENT in characters else REPLACEMENT
        written = (delimiter if character == SPACE else character for character in characters)
        return cls(("<pad>", unknown, *written), "<pad>", unknown, delimiter)

    def __len__(self) -> int:
        """The number of CTC classes."""
        return len(self.tokens)

    @cached_property
    def blank(self) -> int:
        """The class of CTC's blank."""
        return self.tokens.index(self.blank_token)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The strings of which a text can consist."""
        return tuple(self._numbers)

    def encode(self, text: str) -> np.ndarray:
        """Returns the classes (U,) int32 of a text, which is cut into the longest known tokens.

        A letter without a token in its own case gets the token of the other case.
        """
        known, unknown = self._numbers, self._unknown
        numbers = [known.get(piece, unknown) for piece in self._pieces(text)]
        return np.array([number for number in numbers if number is not None], np.int32)

    def spell(self, text: str) -> list[int] | None:
        """Returns the classes of a text, or None if a character has no token."""
        pieces = list(self._pieces(text))
        return None if set(pieces) - self._numbers.keys() else [self._numbers[piece] for piece in pieces]

    def unknown(self, text: str) -> set[str]:
        """Returns the characters of a text that have no token."""
        return set(self._pieces(text)) - self._numbers.keys()

    def text_of(self, path: np.ndarray) -> str:
        """Returns the text of a CTC path (T,): repeated tokens are merged, then blanks removed."""
        written = (self.tokens[number] or self.unknown_token for number in path)
        kept = [token for token, _ in groupby(written) if token and token != self.blank_token]
        text = "".join(self.space if token == self.delimiter_token else token for token in kept).strip()
        text = text.lower() if self.lower else text
        for found, replacement in CLEANED.items() if self.clean_up else ():
            text = text.replace(found, replacement)
        return text

    def greedy(self, emissions: np.ndarray) -> str:
        """Returns the text of the most likely path of log probabilities (T, V)."""
        return self.text_of(emissions.argmax(-1))

    def _pieces(self, text: str) -> list[str]:
        """Cuts a text into the longest known tokens, and single characters where no token matches."""
        return self._longest.findall(text)

    @cached_property
    def _unknown(self) -> int | None:
        known = self.unknown_token in self.tokens and self.unknown_token not in ("", self.blank_token)
        return self.tokens.index(self.unknown_token) if known else None

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """The class of each string that can occur in a text. Texts are in lower case (`normal`)."""
        ours = ("", self.blank_token, self.unknown_token)
        exact = {token: number for number, token in enumerate(self.tokens) if token not in ours}
        if self.delimiter_token in exact:
            exact[SPACE] = exact.pop(self.delimiter_token)
        return {unicodedata.normalize("NFC", token.lower()): number for token, number in exact.items()} | exact

    @cached_property
    def _longest(self) -> re.Pattern[str]:
        """A pattern of all tokens, longest first because the first match wins, and then any single character."""
        longer = sorted((token for token in self._numbers if len(token) > 1), key=len, reverse=True)
        return re.compile("|".join([*map(re.escape, longer), "."]), re.DOTALL)
