"""The transcribed recordings of a store, with their texts as class numbers.

A text belongs to the whole recording, so recordings are not cropped. Those longer than the longest bucket, or without a
text, are left out and counted.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator

import numpy as np

from jepa_speech import checked
from jepa_speech.batches.batch_plan import Share
from jepa_speech.batches.weighted_stores import Stores, shares
from jepa_speech.cloud.cache import Shard
from jepa_speech.errors import UserError
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.files import sha256_arrays
from jepa_speech.store.store import Store
from jepa_speech.text.tokens import Tokens
from jepa_speech.text.vocabulary import Vocabulary, normal
from jepa_speech.wording import counted


class Transcribed:
    """A store's recordings with a text, renumbered from 0 and read like a store.

    longest: samples of the longest recording that is kept. Raises UserError if none is kept.

    Attributes: `samples` (N,), `level` (N,), `hours`, `shares` and `fingerprint` (of recordings and texts) as in a
    store; `without_text` and `too_long`, the numbers of recordings left out; `unknown`, the number of texts with each
    character that the vocabulary lacks.
    """

    def __init__(self, store: Store | Stores, vocabulary: Tokens, longest: int) -> None:
        written = list(texts(store))
        has_text = np.array([text is not None for text in written])
        fits = np.asarray(store.samples) <= longest
        self.without_text, self.too_long = int((~has_text).sum()), int((has_text & ~fits).sum())
        self._store, self._chosen = store, np.flatnonzero(has_text & fits)
        if not len(self._chosen):
            raise UserError(
                f"{store!r}: no recording can be used: {self.without_text} have no field `text` in the store's "
                f"records.jsonl, {self.too_long} are longer than {longest / SAMPLE_RATE:g} s (data.buckets); prepare a "
                "store with transcripts, or raise data.buckets"
            )
        self.samples = np.asarray(store.samples)[self._chosen]
        self.level = np.asarray(store.level[self._chosen])
        self.remote = store.remote
        self.hours = float(self.samples.sum()) / SAMPLE_RATE / 3600
        chosen = [written[i] or "" for i in self._chosen]
        numbers = [vocabulary.encode(text) for text in chosen]
        self.unknown = Counter(piece for text in chosen for piece in vocabulary.unknown(text))
        self._ends = np.cumsum([0, *map(len, numbers)])
        self._numbers = np.concatenate(numbers)
        contents = sha256_arrays({"chosen": self._chosen, "ends": self._ends, "numbers": self._numbers})
        self.fingerprint = hashlib.sha256(f"{store.fingerprint} {contents}".encode()).hexdigest()
        bounds = np.searchsorted(self._chosen, np.cumsum([0, *(count for count, _ in shares(store))]))
        weights = (weight for _, weight in shares(store))
        self.shares: list[Share] = list(zip(np.diff(bounds).tolist(), weights, strict=True))

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, i: int, start: int = 0, samples: int | None = None) -> np.ndarray:
        """Like `Store.read`."""
        return self._store.read(int(self._chosen[i]), start, samples)

    def in_bucket(self, records: np.ndarray) -> list[Shard]:
        """Like `Store.in_bucket`."""
        return self._store.in_bucket(self._chosen[records])

    def named(self, i: int) -> str:
        """Like `Store.named`."""
        return self._store.named(int(self._chosen[i]))

    def text_ids(self, records: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the texts of records (B,): ids (B, U) int32, zero padded, and lengths (B,) int32.

        U is the longest text of all recordings up to `longest` samples, so that each bucket has one shape.
        """
        lengths = np.diff(self._ends).astype(np.int32)
        ids = np.zeros((len(records), max(1, int(lengths[self.samples <= longest].max()))), np.int32)
        for row, record in zip(ids, records.tolist(), strict=True):
            row[: lengths[record]] = self._numbers[self._ends[record] : self._ends[record + 1]]
        return ids, lengths[records]

    def summary(self) -> str:
        """Returns a line with the numbers of recordings used and left out, and the characters not in the vocabulary."""
        left_out = f"{self.without_text} without, {self.too_long} too long"
        said = f"{counted(len(self), 'recording')} with a text; left out: {left_out}"
        if not self.unknown:
            return said
        shown = ", ".join(f"{piece!r} in {count}" for piece, count in self.unknown.most_common(5))
        more = f" and {counted(len(self.unknown) - 5, 'other')}" if len(self.unknown) > 5 else ""
        return f"{said}; characters of texts that are not in the vocabulary: {shown}{more}"


def texts(store: Store | Stores) -> Iterator[str | None]:
    """Yields the normalised text of each recording, in order; None if it has none.

    Raises UserError, naming file and line, if a text is not a string.
    """
    for part in [store] if isinstance(store, Store) else [part for part, _ in store.parts]:
        for number, row in enumerate(part.records(), 1):
            if (text := row.get("text")) is None:
                yield None
                continue
            where = f"{part.path / 'records.jsonl'}:{number}: {row['source']}: text"
            try:
                yield normal(checked.value(text, where, str))
            except UserError as error:
                raise UserError(f"{error}; correct it in the manifest, and prepare the store again") from error


def characters(store: Store | Stores) -> str:
    """Returns all characters of a store's texts, in order of their code points."""
    return "".join(Vocabulary.of(text for text in texts(store) if text is not None).symbols)
