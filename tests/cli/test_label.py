"""The verb: what it prints and writes, and its options of parts."""

import json

import pytest
from support.clustered_audio import babble_store
from support.random_anchors import make_gmm

from jepa_speech.cli import main


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """The command line of labels of 3 components."""
    folder = tmp_path_factory.mktemp("label")
    make_gmm(components=8, dim=39, features="mfcc").save(folder / "gmm.npz")
    store = babble_store(folder, [0.8, 1.5])
    return ["label", "--store", str(store.path), "--anchor", str(folder / "gmm.npz"), "--top-k", "3"]


def test_parts_for_array_jobs(arguments, capsys):
    for option, part in (("--part", "0/2"), ("--shard", "1/2")):  # the second is its older name
        assert main([*arguments, option, part]) == 0
        shown = capsys.readouterr()
        assert f"part {part} is written; when all are, `jepa-speech inspect" in shown.out
        assert ("--shard is named --part now\n" in shown.err) == (option == "--shard")
    for option in ("--part", "--shard"):
        assert main([*arguments, option, "2/2"]) == 2
        assert "'2/2' is no part: I/N with 0 <= I < N" in capsys.readouterr().err


def test_figures_are_printed(arguments, tmp_path, capsys):
    assert main([*arguments, "--json", str(tmp_path / "label.json")]) == 0
    shown, results = capsys.readouterr(), json.loads((tmp_path / "label.json").read_text())
    assert "label: " in shown.err and "nothing to do" not in shown.out
    assert f"labels       {results['labels']}\n" in shown.out and "of the mass, by 3 of 8 at most\n" in shown.out
    assert main(arguments) == 0
    assert "has been labelled by this anchor with --top-k 3 before; nothing to do\n" in capsys.readouterr().out
    (tmp_path / results["labels"] / "blocks.bin").write_bytes(b"")
    assert main(arguments) == 0
    assert "labelled again: " in capsys.readouterr().err
