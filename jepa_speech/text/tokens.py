"""The tokens of a CTC layer, by class, and the texts that they write: as transformers' Wav2Vec2CTCTokenizer does."""

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np

from jepa_speech.text.vocabulary import REPLACEMENT

SPACE = " "
# What `clean_up` replaces, in this order.
CLEANED = {" .": ".", " ?": "?", " !": "!", " ,": ",", " ' ": "'"} | {
    f" {ending}": ending for ending in ("n't", "'m", "'s", "'ve", "'re")
}


@dataclass(frozen=True)
class Tokens:
    """Config section `vocabulary` of the objective `ctc`, which an imported CTC layer brings."""

    tokens: tuple[str, ...]  # one for each class; a class without a token has "" and is written as unknown_token
    blank_token: str  # CTC's blank
    unknown_token: str = ""  # stands for characters that no token writes; empty: they are left out
    delimiter_token: str = ""  # the token between words; empty: there is none
    space: str = SPACE  # how delimiter_token is written
    lower: bool = False  # whether texts are written in lower case
    clean_up: bool = False  # whether the space before punctuation and English contractions is removed

    @classmethod
    def of(cls, characters: str) -> "Tokens":
        """The blank, a token for unknown characters, and one token for each of the characters, in this order."""
        # "|" and "<pad>" are what transformers expects where nothing else is said.
        delimiter = SPACE if "|" in characters else "|"
        unknown = "<unk>" if REPLACEMENT in characters else REPLACEMENT
        written = (delimiter if character == SPACE else character for character in characters)
        return cls(("<pad>", unknown, *written), "<pad>", unknown, delimiter)

    def __len__(self) -> int:
        """How many classes CTC has."""
        return len(self.tokens)

    @cached_property
    def blank(self) -> int:
        """The class of CTC's blank."""
        return self.tokens.index(self.blank_token)

    @property
    def symbols(self) -> tuple[str, ...]:
        """What a text can be made of."""
        return tuple(self._numbers)

    def encode(self, text: str) -> np.ndarray:
        """A text -> (U,) int32, by the longest token that fits.

        A letter that has no token of its own case takes the other case's.
        """
        known, unknown = self._numbers, self._unknown
        numbers = [known.get(piece, unknown) for piece in self._pieces(text)]
        return np.array([number for number in numbers if number is not None], np.int32)

    def spell(self, text: str) -> list[int] | None:
        """The classes of a text; None if it has a character that no token writes."""
        pieces = list(self._pieces(text))
        return None if set(pieces) - self._numbers.keys() else [self._numbers[piece] for piece in pieces]

    def unknown(self, text: str) -> set[str]:
        """The characters of a text that no token writes."""
        return set(self._pieces(text)) - self._numbers.keys()

    def text_of(self, path: np.ndarray) -> str:
        """The text of a CTC path (T,): repeated tokens count once, then blanks are removed."""
        written = (self.tokens[number] or self.unknown_token for number in path)
        kept = [token for token, _ in groupby(written) if token and token != self.blank_token]
        text = "".join(self.space if token == self.delimiter_token else token for token in kept).strip()
        text = text.lower() if self.lower else text
        for found, replacement in CLEANED.items() if self.clean_up else ():
            text = text.replace(found, replacement)
        return text

    def greedy(self, emissions: np.ndarray) -> str:
        """The text of the likeliest path of (T, V) log probabilities."""
        return self.text_of(emissions.argmax(-1))

    def _pieces(self, text: str) -> list[str]:
        """The text cut into the longest tokens that fit, and single characters where none does."""
        return self._longest.findall(text)

    @cached_property
    def _unknown(self) -> int | None:
        known = self.unknown_token in self.tokens and self.unknown_token not in ("", self.blank_token)
        return self.tokens.index(self.unknown_token) if known else None

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """Class of each string that a text can hold; texts are in lower case (`normal`)."""
        ours = ("", self.blank_token, self.unknown_token)
        exact = {token: number for number, token in enumerate(self.tokens) if token not in ours}
        if self.delimiter_token in exact:
            exact[SPACE] = exact.pop(self.delimiter_token)
        return {unicodedata.normalize("NFC", token.lower()): number for token, number in exact.items()} | exact

    @cached_property
    def _longest(self) -> re.Pattern[str]:
        """Of alternatives, the first that matches is taken, so longer ones come first; any character is the last."""
        longer = sorted((token for token in self._numbers if len(token) > 1), key=len, reverse=True)
        return re.compile("|".join([*map(re.escape, longer), "."]), re.DOTALL)
