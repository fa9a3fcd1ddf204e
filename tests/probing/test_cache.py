"""Features on disk: found by content, never another's; and sequences that memory has no room for."""

import numpy as np
import pytest
from support.damage import damage
from support.labelled_corpus import write_spoken

from jepa_speech.features.grid import frames
from jepa_speech.probing import extract, phones, pooled, slot_values
from jepa_speech.probing.cache import Cache
from jepa_speech.probing.extract import gather
from jepa_speech.probing.inputs import OnDemand

TASKS = {"phones": phones, "speaker": pooled.SPEAKER}


class Counting:
    """Two layers that depend on the wave alone, with a count of calls."""

    calls = 0

    def __call__(self, wave, sample_rate):
        self.calls += 1
        cut = wave[: 320 * frames(len(wave))].reshape(-1, 320)
        return [cut[:, :4], np.square(cut[:, :4])]


@pytest.fixture
def corpus(tmp_path):
    return write_spoken(tmp_path / "data", seconds=0.3)


def same(one, other):
    return all(np.array_equal(one[t][s].x, other[t][s].x) for t in one for s in one[t])


def test_a_second_run_extracts_nothing_and_finds_the_same(corpus, tmp_path):
    plain, first, second, other = (Counting() for _ in range(4))
    wanted = gather(TASKS, corpus, plain, progress=False)
    assert same(wanted, gather(TASKS, corpus, first, False, Cache(tmp_path / "c", "a")))
    (corpus / "audio/train0.wav").rename(corpus / "audio/moved.wav")
    (corpus / "audio/train1.wav").rename(corpus / "audio/train0.wav")  # another content under a known name
    (corpus / "audio/moved.wav").rename(corpus / "audio/train1.wav")
    found = gather(TASKS, corpus, second, False, Cache(tmp_path / "c", "a"))
    assert first.calls == plain.calls and second.calls == 0
    assert not same(wanted, found) and same(found, gather(TASKS, corpus, Counting(), progress=False))
    gather(TASKS, corpus, other, False, Cache(tmp_path / "c", "b"))
    assert other.calls == plain.calls


def test_what_does_not_fit_is_extracted_again(corpus, tmp_path):
    layers = np.zeros((2, 14, 4), np.float32)
    size = layers.nbytes + 128  # a header of .npy
    for _ in range(2):
        extract = Counting()
        gather(TASKS, corpus, extract, False, Cache(tmp_path / "c", "a", limit=3 * size))
    files = list((tmp_path / "c" / "a").iterdir())
    assert len(files) == 3 and extract.calls == 18 - 3


def test_a_damaged_file_is_made_again(corpus, tmp_path, capsys):
    wanted = gather(TASKS, corpus, Counting(), False, Cache(tmp_path / "c", "a"))
    random, folder, damaged = np.random.default_rng(0), tmp_path / "c" / "a", 0
    for kinds in [["flip"]] * 8 + [["cut"]] * 3 + [["delete"]]:
        whole = {path: path.read_bytes() for path in folder.iterdir()}
        done, extract = damage(folder, random, kinds), Counting()
        assert same(wanted, gather(TASKS, corpus, extract, False, Cache(tmp_path / "c", "a")))
        assert extract.calls == 1 and {path: path.read_bytes() for path in folder.iterdir()} == whole
        said = capsys.readouterr().err
        assert f"{done.path}: damaged" in said or kinds == ["delete"]
        damaged += "computed again" in said
    assert damaged == 11


def test_an_array_that_cannot_be_layers_is_made_again(corpus, tmp_path, capsys):
    """A sound file, but of two axes, of integers, or with NaN: another program's, or an earlier version's."""
    wanted = gather(TASKS, corpus, Counting(), False, Cache(tmp_path / "c", "a"))
    path = min((tmp_path / "c" / "a").iterdir())
    layers = np.load(path)
    for wrong in (layers[0], layers.astype(np.int32), np.where(layers == layers[0, 0, 0], np.nan, layers)):
        np.save(path, wrong)
        extract = Counting()
        assert same(wanted, gather(TASKS, corpus, extract, False, Cache(tmp_path / "c", "a")))
        assert extract.calls == 1 and str(path) in capsys.readouterr().err


def test_sequences_beyond_memory_are_the_same(corpus, monkeypatch):
    monkeypatch.setattr(slot_values, "read", lambda folder: phones.read(folder))
    kept = gather({"slot_values": slot_values}, corpus, Counting(), False)["slot_values"]
    monkeypatch.setattr(extract, "MEMORY", 5 * kept["train"].features[0].nbytes)
    counting = Counting()
    found = gather({"slot_values": slot_values}, corpus, counting, False)["slot_values"]
    assert sum(isinstance(x, OnDemand) for part in found.values() for x in part.features) == 18 - 5
    for split, part in found.items():
        for ours, theirs in zip(part.features, kept[split].features, strict=True):
            assert ours.shape == theirs.shape
            np.testing.assert_array_equal(ours, theirs)
            np.testing.assert_array_equal(ours[1:], theirs[1:])
    assert counting.calls > 18
