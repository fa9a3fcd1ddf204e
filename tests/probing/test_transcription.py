"""Heads that write: features that hold the answer are read without an error, noise is not."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.language_models import uniform

from jepa_speech.errors import UserError
from jepa_speech.probing import asr, pr, slots, transcription
from jepa_speech.probing.ctc_head import Recipe
from jepa_speech.probing.inputs import Sequences
from jepa_speech.probing.progress import bars
from jepa_speech.text.beam import Beam

FAST = Recipe(learning_rates=(0.03,), steps=60, looks=2, batch=8, projection=16, units=12, lstms=1, dropout=0.0)
LINEAR = Recipe(**FAST.__dict__ | {"lstms": 0, "augment": None})
WORDS = ["ab", "ba", "aa", "cab"]


def texts(count: int, seed: int) -> list[str]:
    """Two words each: of one padded length, so that one program is compiled."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, 2)) for _ in range(count)]


def spoken(targets: list, alphabet: list[str], tells: bool, seed: int, layers: int = 2) -> Sequences:
    """Three frames a symbol, then one of nothing; the second layer holds which symbol it is, if `tells`."""
    random, parts = np.random.default_rng(seed), []
    for target in targets:
        frames = [row for symbol in target for row in [alphabet.index(symbol)] * 3 + [len(alphabet)]]
        x = random.normal(size=(layers, len(frames), 1 + len(alphabet))).astype(np.float32)
        if tells:
            x[1] = 4 * np.eye(1 + len(alphabet))[frames] + 0.1 * x[1]
        parts.append(x)
    return Sequences(parts, tuple(targets), tuple(f"{seed}-{i}" for i in range(len(targets))))


def data(make, alphabet: list[str], tells: bool = True) -> dict[str, Sequences]:
    sizes = {"train": 48, "valid": 8, "test": 12}
    return {
        split: spoken(make(count, seed), alphabet, tells, seed) for seed, (split, count) in enumerate(sizes.items())
    }


def tagged(count: int, seed: int) -> list[tuple[str, ...]]:
    found = []
    for text in texts(count, seed):
        tags = ["B-x" if number else "O" for number, _ in enumerate(text.split())]  # the second word is the slot
        found.append(slots.marked(text, tags, "here"))
    return found


@pytest.mark.parametrize("tells", [True, False])
def test_asr(tells, capsys):
    results = transcription.evaluate(asr, data(texts, list(" abc"), tells), FAST, seed=0, bar=bars("asr"))
    shown = capsys.readouterr().err
    assert "asr: learning rate 0.03: 100%" in shown and "asr: test: 100%" in shown
    (head,) = results["heads"].values()
    cer, wer = (head["figures"][name] for name in ("cer", "wer"))
    assert list(results["figures"]) == ["cer", "wer"] and results["chosen"] == "weighted"
    assert results["sizes"] == {"train": 48, "valid": 8, "test": 12} and results["infeasible"] == 0
    if tells:
        assert cer["value"] == wer["value"] == head["valid"] == 0 and cer["counts"]["2-0"][0] == 0
        assert results["layer_weights"][1] > 0.6
    else:
        assert cer["value"] > 0.5 and wer["value"] > 0.7
    assert [step for step, _ in results["curve"]] == [30, 60]


def test_a_language_model_has_figures_of_its_own(tmp_path):
    """With a model of two of the four words, no other word is found."""
    pytest.importorskip("flashlight.lib.text", reason="flashlight-text, of the extra [lm], is not installed")
    heard = data(texts, list(" abc"))
    known = [all(word in ("ab", "ba") for word in text.split()) for text in heard["test"].targets]
    recipe = replace(FAST, beam=Beam(uniform(tmp_path / "lm.arpa", ["ab", "ba"])))
    results = transcription.evaluate(asr, heard, recipe, seed=0)
    figures = results["heads"]["weighted"]["figures"]
    assert list(results["figures"]) == list(figures) == ["cer", "wer", "cer_lm", "wer_lm"]
    assert figures["wer"]["value"] == 0
    wrong = [figures["wer_lm"]["counts"][key][0] for key in heard["test"].keys]
    assert [errors == 0 for errors in wrong] == known and any(known) and not all(known)


def test_pr_is_linear():
    results = transcription.evaluate(
        pr, data(lambda n, seed: [tuple(t.replace(" ", "c")) for t in texts(n, seed)], list("abc")), LINEAR, 0
    )
    assert results["heads"]["weighted"]["figures"]["per"]["value"] == 0


def test_slots():
    results = transcription.evaluate(slots, data(tagged, [" ", "a", "b", "c", "<x", "x>"]), FAST, seed=0)
    figures = results["heads"]["weighted"]["figures"]
    assert figures["slot_type_f1"]["value"] == 1 and figures["slot_value_cer"]["value"] == 0


def test_marks_values_and_scores():
    tags = ["O", "O", "B-room", "I-room", "O", "B-state"]
    symbols = slots.marked("Turn the living room light on", tags, "here")
    assert "".join(symbols) == "turn the <roomliving roomroom> light <stateonstate>"
    assert slots.values(symbols) == {"room": ["living room"], "state": ["on"]}
    found = ("<room", *"living", "room>", "<state", "o", "<room", "x")  # the latter two never end
    assert slots.score(symbols, found) == {"slot_type_f1": (2 / 3, 1), "slot_value_cer": (5 + 2, 11 + 2)}
    assert slots.score(symbols, symbols) == {"slot_type_f1": (1, 1), "slot_value_cer": (0, 13)}
    assert slots.score(tuple("ab"), tuple("b")) == {"slot_type_f1": (1.0, 1), "slot_value_cer": (0, 0)}


def written(folder: Path, rows: dict[str, list[dict]]) -> Path:
    for split, listed in rows.items():
        (folder / f"{split}.manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed))
    return folder


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        (asr, {"text": None}, "valid.manifest.jsonl:1: the field text is missing"),
        (slots, {"slot_tags": ["O"]}, "valid.manifest.jsonl:1: slot_tags has 1 tag for 2 words"),
        *(
            (slots, {"slot_tags": ["O", tag]}, f"manifest.jsonl:1: slot_tags: {tag!r} is not O, B-SLOT or I-SLOT")
            for tag in ("x", "b-x", "B-", "B- ", "O-x", "", None, 3, True, ["B-x"], {"B": "x"})
        ),
        (slots, {"slot_tags": "O B-x"}, "valid.manifest.jsonl:1: slot_tags = 'O B-x': expected list"),
        (slots, {"slot_tags": {"O": 1}}, "valid.manifest.jsonl:1: slot_tags = {'O': 1}: expected list"),
        (slots, {"text": 3}, "valid.manifest.jsonl:1: text = 3: expected str"),
        (
            slots,
            {"slot_tags": ["O", "B-y"]},
            "jsonl:1: slot_tags: the valid split has <y, which is not in the train split",
        ),
    ],
)
def test_bad_manifests_are_told_by_file_and_field(task, change, message, tmp_path):
    row = {"audio_path": "a.wav", "text": "So be", "slot_tags": ["O", "B-x"]}
    changed = {key: value for key, value in (row | change).items() if value is not None}
    with pytest.raises(UserError, match=re.escape(message)):
        task.read(written(tmp_path, {"train": [row], "valid": [changed], "test": [row]}))


def test_what_is_read(tmp_path):
    row = {"audio_path": "a.wav", "text": "So  be", "slot_tags": ["O", "B-x"], "speaker": "s"}
    folder = written(tmp_path, {split: [row] for split in ("train", "valid", "test")})
    assert asr.read(folder)["test"][0].target == "so be"
    assert slots.read(folder)["train"][0].target == ("s", "o", " ", "<x", "b", "e", "x>")
    phones = {"audio_path": "a.wav", "phones": [["SIL", 0, 0.1], ["S", 0.1, 0.2], ["OW", 0.2, 0.3], ["sp", 0.3, 0.4]]}
    (tmp_path / "phones.jsonl").write_text(json.dumps(phones) + "\n")
    assert pr.read(folder)["valid"][0].target == ("S", "OW")
