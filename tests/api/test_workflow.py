"""workflow.py: a step is done before only if its command, its inputs and its outputs are as they were."""

import json

import pytest
from support.audio_files import write_tones
from support.input_writers import tar_of

from jepa_speech.api import workflow
from jepa_speech.api.workflow import Workflow
from jepa_speech.errors import UserError


def put(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return {}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with data (a manifest and its recording), and a verb that writes DIR/out from it."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.wav").write_text("audio")
    (data / "in.manifest.jsonl").write_text(json.dumps({"audio_path": "a.wav"}) + "\nno json\n" + "[" * 100_000 + "\n")

    for name in ("data/train/b.wav", "data/train/metadata.csv", "corpus/c.wav", "elsewhere/d.wav"):
        put(tmp_path / name, "audio")
    put(data / "dev" / "wav.scp", "c c.wav\n")  # whose recordings are below the root
    (data / "test").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "elsewhere")

    def execute(command, results, log):
        if command[0] == "second":
            return {"seconds": 1.0, "results": {}}
        (tmp_path / "out").write_text("".join(command) + (data / "in.manifest.jsonl").read_text())
        return {"seconds": 1.0, "results": {"bytes": (tmp_path / "out").stat().st_size}}

    monkeypatch.setattr(workflow, "execute", execute)
    return tmp_path


def go(place, *more, after=(), **options):
    """Two steps; returns the workflow."""
    way = Workflow(place / "work", after, str(place / "corpus"))
    way.go("first", *more, reads=[place / "data"], makes=lambda results: [place / "out"], **options)
    way.go("second", makes=lambda results: [])
    return way


CHANGES = {
    "nothing": lambda place: {},
    "command": lambda place: {"more": ("--option",)},
    "settings": lambda place: {"given": {"learning_rate": 1}},
    "input": lambda place: (place / "data" / "in.manifest.jsonl").write_text("{}\n") and {},
    "new input": lambda place: (place / "data" / "other.jsonl").write_text("{}\n") and {},
    "recording": lambda place: (place / "data" / "a.wav").write_text("other audio") and {},
    "recording of a split's folder": lambda place: put(place / "data" / "train" / "b.wav", "other audio"),
    "metadata of a split's folder": lambda place: put(place / "data" / "train" / "metadata.csv", "file_name\n"),
    "recording of a recipe": lambda place: put(place / "corpus" / "c.wav", "other audio"),
    "member of a link's folder": lambda place: put(place / "elsewhere" / "d.wav", "other audio"),
    "other folder": lambda place: put(place / "data" / "runs" / "x.json", "{}"),
    "hidden": lambda place: put(place / "data" / ".cache" / "x.json", "{}"),
    "output gone": lambda place: (place / "out").unlink() or {},
    "output changed": lambda place: (place / "out").write_text("x") and {},
}


def test_the_members_of_an_archive_are_not_listed_one_by_one(tmp_path):
    """An archive may have a million members with equal size and time."""
    wav = write_tones(tmp_path, 1)[0].read_bytes()
    archive = tar_of(tmp_path / "x.tar", {f"{i}.wav": wav for i in range(3)})
    assert list(workflow.files_of([archive])) == [archive]


@pytest.mark.parametrize("change", CHANGES)
def test_a_step_is_done_again_where_anything_changed(place, change, capsys):
    assert go(place).changed
    capsys.readouterr()
    assert go(place).changed is False
    options = CHANGES[change](place)
    before = capsys.readouterr().err.count("done before")
    again = go(place, *options.pop("more", ()), **options)
    assert (before, again.changed) == (2, change not in ("nothing", "hidden", "other folder"))
    assert capsys.readouterr().err.count("done before") == (0 if again.changed else 2)


def test_a_step_that_does_not_say_what_it_makes_is_always_run_and_counts_as_done_if_it_finds_the_same(place, capsys):
    def steps():
        way = Workflow(place / "work")
        way.go("prepare")
        way.go("second", makes=lambda results: [])
        return way.changed, capsys.readouterr().err.count("done before")

    assert steps() == (True, 0)
    assert steps() == (False, 1)
    (place / "data" / "in.manifest.jsonl").write_text("{}\n")
    assert steps() == (True, 0)


@pytest.mark.parametrize(
    "text", ["[1]", "", "[" * 100_000, '{"command": 3}', '{"command": "x"}', '{"command": "x", "results": {}}']
)
def test_a_record_of_another_program_or_a_damaged_one_is_kept(place, text):
    (place / "work" / "done").mkdir(parents=True)
    record = place / "work" / "done" / "0-first.json"
    record.write_text(text)
    with pytest.raises(UserError, match=r"0-first.json: .*; remove it to do that step again, or choose another out"):
        go(place)
    assert record.read_text() == text


def test_a_log_gets_all_that_a_step_prints_and_an_error_names_it(tmp_path):
    log = tmp_path / "out" / "log.txt"
    with pytest.raises(UserError, match=rf"^jepa-speech config, the last step in {log}, failed with exit code 2"):
        Workflow(tmp_path / "out", log=log).go("config", "nowhere")
    assert "$ jepa-speech config nowhere\njepa-speech config: nowhere: no config has" in log.read_text()
