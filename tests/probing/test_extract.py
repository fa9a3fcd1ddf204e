"""From manifests to rows: labels of frames, one pass, clear errors."""

import json

import numpy as np
import pytest
from support.labelled_corpus import SIZES, SPEAKERS, knowing, write_spoken

from jepa_speech.errors import UserError
from jepa_speech.features import grid
from jepa_speech.files import read_jsonl, write_jsonl
from jepa_speech.probing import evaluate, phones, pooled
from jepa_speech.probing.extract import gather, on_grid
from jepa_speech.probing.linear import Recipe

TASKS = {"phones": phones, "speaker": pooled.SPEAKER}
RECIPE = Recipe(learning_rates=(3e-2,), decays=(0.0,), steps=120, batch=64)
RECIPES = dict.fromkeys(TASKS, RECIPE)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_spoken(tmp_path_factory.mktemp("spoken") / "data")


@pytest.fixture
def editable(tmp_path):
    return write_spoken(tmp_path / "data")


def test_a_frame_has_the_phone_at_its_centre():
    segments = [("SIL", 0.0, 0.0125), ("A", 0.0125, 0.0525), ("B", 0.0525, 0.06), ("C", 0.1, 0.2)]
    # Centres: 12.5, 32.5, 52.5, 72.5, 92.5, 112.5 ms. A segment holds its start and not its end.
    assert phones.frame_phones(segments, 6).tolist() == ["A", "A", "B", "", "", "C"]
    assert phones.frame_phones(segments[::-1], 6).tolist() == ["A", "A", "B", "", "", "C"]
    assert phones.frame_phones([("sp", 0.0, 1.0)], 2).tolist() == ["", ""]
    assert phones.frame_phones([], 1).tolist() == [""]


def test_every_recording_is_extracted_once(corpus):
    calls, truth = [], knowing(corpus)

    def extract(wave, sample_rate):
        calls.append((len(wave), sample_rate))
        return truth(wave, sample_rate)

    data = gather(TASKS, corpus, extract, progress=False)
    assert calls == [(12_800, 16_000)] * sum(SIZES.values())
    train = data["phones"]["train"]
    assert train.x.shape[1:] == (2, 3) and train.classes == ("AA", "B", "SH")
    np.testing.assert_allclose(train.x.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(train.x.std(0), 1, atol=1e-4)
    assert abs(data["phones"]["valid"].x.mean(0)).max() > 1e-4  # standardised by the training split alone
    assert data["speaker"]["test"].x.shape == (SIZES["test"], 2, 3)
    assert data["speaker"]["test"].keys[0] == "audio/test0.wav"


def test_features_that_hold_the_label_score_100_and_noise_scores_chance(corpus):
    def score(noise):
        results = evaluate.probe_features(
            "x", knowing(corpus, noise), corpus, ["phones"], recipes=RECIPES, progress=False
        )
        return results["tasks"]["phones"]

    told = score(noise=False)
    assert value(told, "layer 1")["value"] == value(told, "weighted")["value"] == 1.0
    assert told["layer_weights"][1] > 0.5
    assert np.trace(told["confusion"]) == told["sizes"]["test"] == np.sum(told["confusion"])
    guessed = score(noise=True)
    for head in (value(told, "layer 0"), *(value(guessed, head) for head in guessed["heads"])):
        assert head["low"] <= 0.40 and head["high"] >= 0.29, head  # 3 phones, nearly alike in number


def value(part, head):
    return part["heads"][head]["figures"]["accuracy"]


def test_speakers_that_stand_in_the_features_are_found(corpus):
    def pitches(wave, sample_rate):
        """How strong each speaker's pitch is, the same for all frames."""
        time = np.arange(len(wave)) / sample_rate
        found = [abs(np.exp(-2j * np.pi * pitch * time) @ wave) for pitch in SPEAKERS.values()]
        return [np.tile(np.float32(found), (39, 1))]

    results = evaluate.probe_features("pitches", pitches, corpus, ["speaker"], recipes=RECIPES, progress=False)
    assert evaluate.estimate(results, "speaker").value == 1.0
    rng = np.random.default_rng(0)
    noise = lambda wave, rate: [rng.normal(size=(len(wave) // 320, 4))]  # noqa: E731
    results = evaluate.probe_features("noise", noise, corpus, ["speaker"], recipes=RECIPES, progress=False)
    assert 0 <= evaluate.estimate(results, "speaker").low <= 0.5


def test_results_are_plain_json_and_pair_up(corpus):
    ours, theirs = (
        evaluate.probe_features(name, knowing(corpus, noise), corpus, ["phones"], recipes=RECIPES, progress=False)
        for name, noise in (("ours", False), ("theirs", True))
    )
    ours, theirs = json.loads(json.dumps([ours, theirs]))
    found = evaluate.compare([ours], [theirs], "phones")
    assert found.low > 0.3
    counts = evaluate.figure_of(theirs, "phones")["counts"]
    right, total = np.array(list(counts.values())).sum(0)
    assert found.value == pytest.approx(1 - right / total)
    text = evaluate.text(evaluate.table([ours, theirs]))
    assert "100.0 [100.0, 100.0]" in text and "weighted" in text
    del counts["audio/test0.wav"]
    with pytest.raises(UserError, match="not tested on the same recordings"):
        evaluate.compare([ours], [theirs], "phones")
    with pytest.raises(UserError, match="lack the task speaker"):
        evaluate.compare([ours], [theirs], "speaker")


def drop(name):
    return lambda folder: (folder / name).unlink()


def rewrite(name, change):
    return lambda folder: write_jsonl(folder / name, change(list(read_jsonl(folder / name))))


def without(field):
    return lambda rows: [rows[0], {key: value for key, value in rows[1].items() if key != field}, *rows[2:]]


def relabel(rows):
    return [row | {"phones": [["ZH", s, e] for _, s, e in row["phones"]]} if "test0" in row["audio_path"] else row
            for row in rows]  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (drop("valid.manifest.jsonl"), ["valid.manifest.jsonl", "no such file"]),
        (drop("phones.jsonl"), ["phones.jsonl", "no such file"]),
        (rewrite("sid.test.manifest.jsonl", lambda rows: []), ["sid.test.manifest.jsonl", "empty"]),
        (rewrite("train.manifest.jsonl", without("audio_path")), ["train.manifest.jsonl:2", "audio_path"]),
        (rewrite("sid.train.manifest.jsonl", without("label")), ["sid.train.manifest.jsonl:2", "label is missing"]),
        (rewrite("phones.jsonl", lambda rows: rows[2:]), ["phones.jsonl", "train0.wav", "1 other"]),
        (rewrite("phones.jsonl", without("phones")), ["phones.jsonl:2", "the field phones is missing"]),
        (rewrite("phones.jsonl", relabel), ["test.manifest.jsonl:1: phones", "test split", "ZH", "not in the train"]),
        (drop("audio/valid1.wav"), ["valid1.wav", "no such file"]),
    ],
)  # fmt: skip
def test_bad_data_is_named(editable, damage, words):
    damage(editable)
    with pytest.raises(UserError) as caught:
        gather(TASKS, editable, knowing_nothing, progress=False)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def knowing_nothing(wave, sample_rate):
    return [np.ones(((len(wave) - 400) // 320 + 1, 2), np.float32)]


def test_layers_of_different_widths_cannot_be_summed(corpus):
    with pytest.raises(UserError, match=r"different widths, \[2, 3\]"):
        gather(TASKS, corpus, lambda wave, rate: [np.ones((39, 2)), np.ones((39, 3))], progress=False)


def test_an_unknown_task_is_refused(corpus):
    with pytest.raises(UserError, match="unknown task singing: choose from phones, "):
        evaluate.probe_features("x", knowing_nothing, corpus, ["singing"])


def test_systems_at_other_rates_are_probed_at_the_same_moments():
    """A ramp over time comes back as a ramp, to half a frame of the system."""
    samples = 48_000 - 140
    centres = np.arange(grid.frames(samples)) * grid.HOP + grid.WINDOW / 2
    for rate, window in ((25.0, 1360), (100.0, 160), (50.0, 560)):  # the last has one frame less than the grid
        hop = 16_000 / rate
        count = int((samples - window) // hop) + 1
        ramp = (np.arange(count) * hop + window / 2)[:, None]
        mapped = on_grid([ramp], rate, samples)[0][:, 0]
        inside = (centres > ramp[0]) & (centres < ramp[-1])
        assert np.abs(mapped - centres)[inside].max() <= hop / 2 + hop / 2  # half a frame, and where the wave is cut
    same = [np.zeros((grid.frames(samples), 3))]
    assert on_grid(same, 50.0, samples) is same
