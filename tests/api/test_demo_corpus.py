"""The demo's corpus: composed sentences, splits that share no speaker, phone times that fit the sound."""

import importlib.util
import shutil
from itertools import chain, pairwise

import numpy as np
import pytest
import soundfile

from jepa_speech.api import demo_corpus
from jepa_speech.api.demo_corpus import jobs, plain_phones, write_corpus
from jepa_speech.files import read_jsonl


def test_no_sentence_and_no_speaker_crosses_the_splits():
    todo = jobs()
    assert todo == jobs()
    assert len({job["id"] for job in todo}) == len({job["text"] for job in todo}) == len(todo)
    speakers = {split: {job["speaker"] for job in todo if job["split"] == split} for split in demo_corpus.VOICES}
    assert sum(len(found) for found in speakers.values()) == len(set().union(*speakers.values())) == 16


def test_phones_lose_stress_and_accent_and_pauses_join():
    spoken = [["_:", 0, 1], ["_", 1, 2], ["'aI", 2, 3], ["@2", 3, 4], ["_", 4, 5]]
    assert plain_phones(spoken) == [["sil", 0, 2], ["aI", 2, 3], ["@", 3, 4], ["sil", 4, 5]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    if not importlib.util.find_spec("espeakng_loader") and not shutil.which("espeak-ng"):
        pytest.skip("no eSpeak NG: neither espeak-ng nor espeakng-loader is installed")
    chosen = [job for job in jobs() if job["id"].endswith(("_00", "_01"))]
    return write_corpus(tmp_path_factory.mktemp("demo") / "corpus", chosen)


def test_corpus_has_the_layout_that_probes_read(corpus):
    splits = {split: list(read_jsonl(corpus / f"{split}.manifest.jsonl")) for split in ("train", "valid", "test")}
    pretrain = list(read_jsonl(corpus / "pretrain.manifest.jsonl"))
    assert {row["audio_path"] for row in pretrain} == {row["audio_path"] for row in splits["train"]}
    phones = {row["audio_path"]: row["phones"] for row in read_jsonl(corpus / "phones.jsonl")}
    for row in chain.from_iterable(splits.values()):
        info = soundfile.info(corpus / row["audio_path"])
        assert (info.samplerate, info.channels) == (16000, 1)
        assert info.duration == pytest.approx(row["duration"])
        marks = phones[row["audio_path"]]
        assert marks[0][1] == 0 and marks[-1][2] == pytest.approx(row["duration"], abs=1e-3)
        assert all(label and end > start for label, start, end in marks)
        assert all(first[2] == second[1] for first, second in pairwise(marks))
    for split in splits:
        assert all(row["label"] == row["speaker"] for row in read_jsonl(corpus / f"sid.{split}.manifest.jsonl"))


def test_phone_times_fit_the_sound(corpus):
    """Pauses at the ends are quiet, vowels loud, and [s] hisses: most of its energy lies above 3 kHz."""
    level: dict[str, list[float]] = {"pause": [], "vowel": []}
    high = []
    for row in read_jsonl(corpus / "phones.jsonl"):
        wave, rate = soundfile.read(corpus / row["audio_path"])
        marks = row["phones"]
        for position, (label, start, end) in enumerate(marks):
            piece = wave[int(start * rate) : int(end * rate)]
            if position in (0, len(marks) - 1) and label == "sil":
                level["pause"].append(np.sqrt(np.mean(piece**2)))
            elif label in ("a", "aI", "eI", "oU", "E"):
                level["vowel"].append(np.sqrt(np.mean(piece**2)))
            elif label == "s":
                power = np.abs(np.fft.rfft(piece)) ** 2
                high.append(power[len(power) * 3 // 8 :].sum() / power.sum())
    assert np.median(level["vowel"]) > 20 * np.median(level["pause"])
    assert np.median(high) > 0.7


def test_speech_is_the_same_every_time(corpus, tmp_path):
    again = write_corpus(tmp_path / "corpus", [job for job in jobs() if job["id"].endswith(("_00", "_01"))])
    for path in sorted((corpus / "audio").iterdir()):
        assert path.read_bytes() == (again / "audio" / path.name).read_bytes(), path.name


def test_without_espeak_one_line_says_what_to_install(tmp_path, monkeypatch):
    script = tmp_path / "espeak_voices.py"
    text = demo_corpus.SCRIPT.read_text(encoding="utf-8")
    script.write_text(text.replace("in candidates():", "in []:"), encoding="utf-8")
    monkeypatch.setattr(demo_corpus, "SCRIPT", script)
    with pytest.raises(demo_corpus.UserError, match="install"):
        write_corpus(tmp_path / "corpus", jobs()[:1])
    assert not (tmp_path / "corpus").exists()
