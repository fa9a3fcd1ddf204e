"""Every verb that reads manifests or folders of recordings takes --root, and the reader of manifests gets it."""

import argparse
from pathlib import Path

import pytest
from support.audio_files import write_tones
from support.parsers import commands

from jepa_speech.api import workflow
from jepa_speech.cli import main, parser
from jepa_speech.cli import root_option as root
from jepa_speech.ingest import manifest
from jepa_speech.ingest.inputs.reading import Reading
from jepa_speech.local_paths import local_path, path_or_bucket
from jepa_speech.store.prepare import prepare

# Options that name recordings, or manifests, archives or folders of them; and all others that are paths.
INPUTS = {"inputs", "data", "manifest", "audio"}
OTHERS = {
    *("out", "json", "cache", "root"),  # what is written; `root` of `corpus` holds a corpus, not manifests
    *("store", "stores", "anchor", "checkpoint", "folder", "workdir", "config"),
    *("like", "against", "pool", "probe", "lm"),
}


def paths(command: argparse.ArgumentParser) -> set[str]:
    """The options that are paths, or may be URLs of buckets."""
    return {one.dest for one in command._actions if one.type in (local_path, path_or_bucket)}


def reads_inputs() -> set[str]:
    return {name for name, command in commands(parser()) if paths(command) & INPUTS}


def test_what_names_inputs_is_known():
    """Add a new option to INPUTS if it names recordings or manifests, or else to OTHERS."""
    for name, command in commands(parser()):
        assert paths(command) <= INPUTS | OTHERS, name


def test_verbs_that_read_inputs_have_the_one_option():
    for name, command in commands(parser()):
        option = command._option_string_actions.get("--root")
        assert (option is not None) == (name in reads_inputs()), name
        assert option is None or option.help == root.HELP


LINES = {
    "prepare": ["--input", "IN", "--out", "OUT"],
    "prepare --check": ["--input", "IN", "--check"],
    "probe": ["--checkpoint", "logmel", "--data", "DATA", "--out", "OUT"],
    "probe abx": ["--checkpoint", "logmel", "--data", "DATA", "--tasks", "abx", "--out", "OUT"],
    "analyze": ["--checkpoint", "RUN", "--store", "STORE", "--data", "DATA", "--out", "OUT"],
    "embed": ["IN", "--checkpoint", "RUN", "--out", "OUT.npz"],
    "transcribe": ["RUN", "IN"],
    "transcribe --manifest": ["RUN", "--manifest", "IN"],
    "demo": ["--data", "DATA", "--out", "OUT"],
    "compare": [
        *("--config", str(Path(__file__).parents[2] / "configs" / "compare_small.py"), "--objectives", "pure_jepa"),
        *("--input", "IN", "--data", "DATA", "--budget", "1", "--out", "OUT"),
    ],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """IN and DATA, whose manifests are a recipe's; STORE; and a reader that fails once it has read below ROOT."""
    monkeypatch.chdir(tmp_path)
    write_tones(tmp_path / "ROOT" / "audio", 1)
    for data in (Path("IN"), *(Path("DATA", split) for split in ("train", "valid", "test"))):
        data.mkdir(parents=True)
        (data / "wav.scp").write_text("a audio/tone000.wav\n")
    Path("DATA/phones.jsonl").write_text("")
    prepare(["ROOT"], "STORE", "pcm16", workers=1)
    monkeypatch.setattr("jepa_speech.api.analyze.load_pretrained", lambda path: None)
    return tmp_path


def test_every_such_verb_is_tried():
    assert {line.split()[0] for line in LINES} == reads_inputs()


@pytest.mark.parametrize("line", LINES)
def test_the_reader_of_manifests_gets_it(line, folder, monkeypatch):
    """In verbs that run others, `prepare` does here, and `probe` in test_demo.py and test_compare.py."""
    roots = []

    def reading(root, *rest):
        roots.append(root)
        return Reading(root, *rest)

    def noted(command, results, log):
        if command[0] == "prepare":
            roots.append(command[command.index("--root") + 1])
        return {"seconds": 0.0, "results": {"fingerprint": ""}}

    monkeypatch.setattr(manifest, "Reading", reading)
    monkeypatch.setattr(workflow, "execute", noted)
    main([line.split()[0], *LINES[line], "--root", "ROOT"])
    assert set(roots) == {"ROOT"}
