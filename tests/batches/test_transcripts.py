"""Texts of a store in batches: only whole recordings, each with its text."""

import json

import numpy as np
import pytest
from support.tone_language import melodies

from jepa_speech.batches.batch_plan import Plan
from jepa_speech.batches.pipeline import batches
from jepa_speech.batches.transcripts import Transcribed, characters, texts
from jepa_speech.batches.weighted_stores import Stores
from jepa_speech.errors import UserError
from jepa_speech.features.grid import samples
from jepa_speech.store.prepare import prepare
from jepa_speech.store.store import Store
from jepa_speech.text.tokens import Tokens

LONGEST = samples(35)  # 0.7 s
BUCKETS = (0.4, 0.7)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Two stores of twelve recordings. In the second one, the first two have no texts."""
    folder = tmp_path_factory.mktemp("texts")
    for seed in (0, 1):
        manifest = melodies(folder / f"in{seed}", 12, seed)
        if seed:
            rows = [json.loads(line) for line in manifest.read_text().splitlines()]
            for row in rows[:2]:
                del row["text"]
            manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        prepare([manifest], folder / f"store{seed}", "pcm16", workers=1)
    return [Store(folder / f"store{seed}") for seed in (0, 1)]


@pytest.mark.parametrize("joined", [False, True])
def test_batches_hold_the_texts_of_whole_recordings(stores, joined):
    store = Stores([(one.path, 1.0) for one in stores]) if joined else stores[1]
    vocabulary = Tokens.of(characters(store))
    kept = Transcribed(store, vocabulary, LONGEST)
    written = list(texts(store))
    assert kept.without_text == 2 == written.count(None)
    assert len(kept) + kept.too_long == len(store) - 2 and kept.too_long > 0
    assert sum(count for count, _ in kept.shares) == len(kept) and len(kept.shares) == 1 + joined

    plan = Plan(kept.samples, BUCKETS, 2.0, seed=0, shares=kept.shares)
    found, shapes = {}, set()
    for batch in batches(kept, plan, frozenset({"text"}), 0, plan.batches_per_epoch, texts=kept):
        shapes.add((batch["audio"].shape[1], batch["text_ids"].shape[1]))
        for row in np.flatnonzero(batch["weight"]):
            record, ids = int(batch["record_id"][row]), batch["text_ids"][row]
            length = batch["text_lengths"][row]
            assert not ids[length:].any()
            text = "".join(vocabulary.tokens[i] for i in ids[:length]).replace("|", " ")
            found[text, int(batch["lengths"][row])] = record
            np.testing.assert_array_equal(batch["audio"][row, : batch["lengths"][row]], kept.read(record))
    wanted = {
        (text, int(size))
        for text, size in zip(written, store.samples, strict=True)
        if text is not None and size <= LONGEST
    }
    assert found.keys() == wanted and len(shapes) == len({bucket for bucket, _ in shapes})


def test_texts_belong_to_the_fingerprint(stores):
    both = [Transcribed(stores[0], Tokens.of(symbols), LONGEST).fingerprint for symbols in ("abc ", "ab ")]
    assert both[0] != both[1] != stores[0].fingerprint


def test_characters_that_the_vocabulary_does_not_write_are_counted(stores):
    kept = Transcribed(stores[0], Tokens.of(" a"), LONGEST)
    kept_texts = [text for text, size in zip(texts(stores[0]), stores[0].samples, strict=True) if size <= LONGEST]
    counts = {letter: sum(letter in text for text in kept_texts if text) for letter in "bc"}
    assert kept.unknown == counts and min(counts.values()) > 0
    assert f"not in the vocabulary: '{max(counts, key=counts.get)}' in {max(counts.values())}" in kept.summary()
    assert "not in the vocabulary" not in Transcribed(stores[0], Tokens.of(" abc"), LONGEST).summary()


def test_nothing_to_learn_from(stores):
    with pytest.raises(UserError, match=r"2 have no field `text`.*10 are longer than 0.0255 s"):
        Transcribed(stores[1], Tokens.of("a"), samples(1) + 8)


@pytest.mark.parametrize("text", [5, 0, True, ["a", "b"], {"text": "a"}, 1.5])
def test_a_text_that_is_no_string_is_refused(text, tmp_path):
    """As `transcribe` and the probes refuse it, not left out as if there were none."""
    manifest = melodies(tmp_path / "in", 3, 0)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in (rows[0], rows[1] | {"text": text}, rows[2])))
    prepare([manifest], tmp_path / "store", "pcm16", workers=1)
    with pytest.raises(UserError, match=r"records\.jsonl:2: .*text = .*: expected str; correct it in the manifest"):
        characters(Store(tmp_path / "store"))
