"""Every task, from manifests to results: features that hold the label score 100%, noise scores chance."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jepa_speech.errors import UserError
from jepa_speech.features.grid import frames
from jepa_speech.files import read_jsonl, write_jsonl
from jepa_speech.ingest import audio
from jepa_speech.probing import asv, attention, bootstrap, classification, discrimination, evaluate, folds, linear
from jepa_speech.probing.extract import gather
from jepa_speech.probing.phones import frame_phones

ELSEWHERE = {"asr", "pr", "slots"}  # sequences by CTC: test_transcription.py
TASKS = [task for task in evaluate.TASKS if task not in ELSEWHERE]
SPEAKERS = {"train": ("s0", "s1"), "valid": ("s2", "s3"), "test": ("s4", "s5")}
EACH, SAMPLES = 16, 3_600  # recordings of a speaker, and their length
LINEAR = linear.Recipe(learning_rates=(3e-2,), decays=(1e-4,), steps=100, batch=64)
RECIPES = {task: LINEAR for task in TASKS} | {
    "abx": discrimination.RECIPE,
    "slot_values": attention.Recipe(learning_rates=(2e-2,), decay=0.0, steps=300, batch=16),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Recordings of noise; every label is drawn apart from the others."""
    folder, rng, phones = tmp_path_factory.mktemp("labelled"), np.random.default_rng(0), []
    for split, speakers in SPEAKERS.items():
        rows = []
        for number in range(2 * EACH):
            key, speaker = f"{split}{number}.wav", speakers[number % 2]
            soundfile.write(folder / key, 0.1 * rng.normal(size=SAMPLES), 16_000)
            fields = {field: str(rng.integers(2)) for field in ("label", "intent", "emotion")}
            slots = {slot: str(value) for slot in ("drink", "size") if (value := rng.integers(3))}
            rows.append({"audio_path": key, "speaker": speaker, "slots": slots, **fields})
            ends = np.arange(6) * 0.04
            spoken = ["P", rng.choice(["AA", "UW"]), "T", rng.choice(["AA", "UW"]), "P"]
            segments = [[str(phone), *ends[i : i + 2].tolist()] for i, phone in enumerate(spoken)]
            phones.append({"audio_path": key, "phones": segments})
        write_jsonl(folder / f"{split}.manifest.jsonl", rows)
        write_jsonl(folder / f"sid.{split}.manifest.jsonl", [row | {"label": f"voice {row['label']}"} for row in rows])
    write_jsonl(folder / "phones.jsonl", phones)
    return folder


def one_hot(value, values):
    return (np.asarray(value)[..., None] == np.array(values)).astype(np.float32)


def hints(task, row, segments):
    """(T, D) in which the label of the task stands."""
    count = frames(SAMPLES)
    if task in ("phones", "abx"):
        return one_hot(frame_phones(segments, count), ["P", "AA", "UW", "T"])
    if task == "slot_values":  # in one frame alone, and each slot in another one
        hint = np.zeros((count, 8), np.float32)
        hint[3, :4] = [1, *one_hot(row["slots"].get("drink", "0"), ["0", "1", "2"])]
        hint[6, 4:] = [1, *one_hot(row["slots"].get("size", "0"), ["0", "1", "2"])]
        return hint
    if task == "asv":
        return np.tile(one_hot(row["speaker"], [f"s{i}" for i in range(6)]), (count, 1))
    field = {"emotion": "emotion", "intent": "intent"}.get(task, "label")
    return np.tile(one_hot(row[field], ["0", "1"]), (count, 1))


def knowing(corpus, task):
    """An extractor of two layers: noise, and the labels of a task."""
    rng, known = np.random.default_rng(1), {}
    phones = {row["audio_path"]: [tuple(part) for part in row["phones"]] for row in read_jsonl(corpus / "phones.jsonl")}
    for split in SPEAKERS:
        for row in read_jsonl(corpus / f"{split}.manifest.jsonl"):
            wave = audio.load(corpus / row["audio_path"])
            known[wave.tobytes()] = hints(task, row, phones[row["audio_path"]])

    def extract(wave, sample_rate):
        truth = known[np.rint(wave * audio.FULL_SCALE).astype(np.int16).tobytes()]
        return [rng.normal(size=truth.shape).astype(np.float32), truth]

    return extract


def noise(wave, sample_rate):
    seed = np.abs(wave * audio.FULL_SCALE).astype(np.int64).sum()
    return list(np.random.default_rng(seed).normal(size=(2, frames(len(wave)), 8)).astype(np.float32))


@pytest.mark.parametrize("task", TASKS)
def test_features_that_hold_the_label_score_100_and_noise_scores_chance(corpus, task, monkeypatch, capsys):
    monkeypatch.setattr(folds, "FOLDS", 3)  # of two speakers each
    guessed, told = (
        evaluate.probe_features(name, extract, corpus, [task], recipes={task: RECIPES[task]}, progress=name == "told")
        for name, extract in (("noise", noise), ("told", knowing(corpus, task)))
    )
    bars = [line.rpartition("\r")[2] for line in capsys.readouterr().err.strip().split("\n")]
    assert [line.split(":")[0] for line in bars] == ["features", *[task] * (len(bars) - 1)] and len(bars) > 1
    assert all(": 100%" in line for line in bars)  # each says what is done, to its end
    figure, better = next(iter(told["tasks"][task]["figures"].items()))
    perfect, part = (0.0 if better == "lower" else 1.0), told["tasks"][task]
    for head in {"layer 1", "weighted"} & set(part["heads"]):
        assert part["heads"][head]["figures"][figure]["value"] == perfect
        assert part["heads"][head]["valid"] == perfect
    assert part["chosen"] in ("layer 1", "weighted") and part.get("layer_weights", [0, 1])[1] > 0.6
    chance = guessed["tasks"][task].get("chance", 0.5)
    found = evaluate.estimate(guessed, task)
    assert found.low - 0.1 <= chance <= found.high + 0.1
    difference = evaluate.compare(*json.loads(json.dumps([[told], [guessed]])), task)
    assert difference.value == pytest.approx(perfect - found.value) and difference.low * difference.high > 0


def test_padding_has_no_weight():
    """And where a mask of 0 and 1 is added to the scores instead, as s3prl does, it has."""
    rng = np.random.default_rng(0)
    keys = {"layers": (2,), "query": (3, 4), "kernel": (3, 4, 5), "bias": (3, 5)}
    parameters = {name: rng.normal(size=shape).astype(np.float32) for name, shape in keys.items()}
    x, lengths = attention.padded([rng.normal(size=(2, t, 4)).astype(np.float32) for t in (6, 9)], 9)
    short = attention.logits_of(parameters, x[:1, :, :6], lengths[:1])
    x[0, :, 6:] = 100.0
    np.testing.assert_allclose(attention.logits_of(parameters, x, lengths)[:1], short, atol=1e-5)


def test_folds_test_everybody_once_and_nobody_who_was_trained_on(corpus):
    data = gather({"emotion": evaluate.TASKS["emotion"]}, corpus, noise, progress=False)["emotion"]
    everything = folds.joined(list(data.values()))
    parts = [folds.split(everything, tested, 0) for tested in folds.speaker_folds(everything.speakers)]
    assert len(parts) == 5 and sorted(k for p in parts for k in p["test"].keys) == sorted(everything.keys)
    for part in parts:
        assert not {*part["train"].speakers, *part["valid"].speakers} & set(part["test"].speakers)
        assert not set(part["train"].keys) & set(part["valid"].keys)
        assert len(part["valid"].keys) == round(0.2 * (len(everything.keys) - len(part["test"].keys)))
        np.testing.assert_allclose(part["train"].x.mean(0), 0, atol=1e-5)
    assert folds.speaker_folds(["Ses02M", "Ses01F", "Ses02F", "Ses01M", *"abcdef"])[0] == ["Ses01F", "Ses01M"]
    with pytest.raises(UserError, match="at least two speakers"):
        folds.speaker_folds(["s0", "s0"])


def test_the_mean_over_folds_counts_every_fold_alike():
    tests = [classification.Rows(None, np.zeros(n, int), np.arange(n), ("",) * n, ("a", "b")) for n in (10, 30)]
    heads = [classification.Head(None, np.arange(n) >= right) for n, right in ((10, 5), (30, 30))]
    assert bootstrap.ratio(classification.counts(tests, heads)).value == pytest.approx((0.5 + 1.0) / 2)


def test_trials(corpus, tmp_path):
    utterances = asv.read(corpus)["test"]
    trials = asv.make_trials(utterances)
    same = [label for label, _, _ in trials]
    assert sum(same) == EACH * (EACH - 1) and sum(same) * 2 == len(same)  # 2 speakers, all their pairs, and as many
    assert len({frozenset(keys) for _, *keys in trials}) == len(trials)
    speakers = {u.key: u.speaker for u in utterances}
    assert all((speakers[a] == speakers[b]) is bool(label) for label, a, b in trials)
    path = tmp_path / "trials.txt"
    path.write_text("1 a b\n0 a c\n")
    assert asv.read_trials(path, {"a", "b", "c"}) == [(True, "a", "b"), (False, "a", "c")]
    for text, words in (("1 a\n", "trials.txt:1"), ("1 a b\n0 a d\n", "trials.txt:2: d is not in the manifest")):
        path.write_text(text)
        with pytest.raises(UserError, match=words):
            asv.read_trials(path, {"a", "b"})


@pytest.mark.parametrize("split", ["valid", "test"])
def test_trials_of_real_speech_are_those_that_were_committed(speech_data, split):
    path = Path(__file__).parents[2] / "benchmarks" / "trials" / f"librispeech.{split}.txt"
    utterances = asv.read(speech_data / "librispeech")[split]
    made = [(same, u.key, key) for u in utterances for key, same in u.target]
    assert made == asv.read_trials(path, {u.key for u in utterances})


FIELDS = {"keywords": "label", "intent": "intent", "emotion": "emotion", "slot_values": "slots", "asv": "speaker"}


@pytest.mark.parametrize("task", FIELDS)
def test_a_missing_field_and_an_unseen_label_are_named(corpus, tmp_path, task):
    field, rows = FIELDS[task], list(read_jsonl(corpus / "test.manifest.jsonl"))
    for split in ("train", "valid"):
        shutil.copy(corpus / f"{split}.manifest.jsonl", tmp_path)
    path = tmp_path / "test.manifest.jsonl"
    write_jsonl(path, [rows[0], {name: value for name, value in rows[1].items() if name != field}])
    with pytest.raises(UserError, match=rf"{path}:2: the field {field} is missing"):
        evaluate.TASKS[task].read(tmp_path)
    write_jsonl(path, [])
    with pytest.raises(UserError, match=rf"{path}: the split is empty"):
        evaluate.TASKS[task].read(tmp_path)
    if task in ("keywords", "intent", "slot_values"):
        unseen = {"size": "gigantic"} if field == "slots" else "gigantic"
        write_jsonl(path, [rows[0], rows[1] | {field: unseen}])
        with pytest.raises(
            UserError, match=rf"{path}:2: {field}: the test split has .*gigantic, which is not in the train split"
        ):
            evaluate.TASKS[task].read(tmp_path)


def test_what_leaves_nothing_to_tell_is_named(corpus, tmp_path):
    everything = folds.joined([*gather({"e": evaluate.TASKS["emotion"]}, corpus, noise, progress=False)["e"].values()])
    of_one = np.array([speaker == "s0" for speaker in everything.speakers])
    with pytest.raises(UserError, match="only s0 have the label 1, so training has no"):
        folds.split(dataclasses.replace(everything, y=of_one.astype(int)), ["s0"], 0)
    alike = dataclasses.replace(everything, classes=("calm",), y=0 * everything.y)
    with pytest.raises(UserError, match="all recordings have the label calm"):
        folds.evaluate(None, {"train": alike}, LINEAR, 0)
    for split in SPEAKERS:
        rows = list(read_jsonl(corpus / f"{split}.manifest.jsonl"))
        write_jsonl(tmp_path / f"{split}.manifest.jsonl", [row for row in rows if row["speaker"] != "s4"])
    with pytest.raises(UserError, match="the test split needs trials of the same speaker and of different"):
        asv.read(tmp_path)
