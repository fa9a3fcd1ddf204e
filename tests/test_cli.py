"""The frame of the command line: help with an example that parses, --json, exit codes, one line for an error."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from training.several import environments

from jepa_speech import cli
from jepa_speech.errors import Interrupted, UsageError, UserError
from jepa_speech.lock import LOCK, locked


def example(verb: str) -> str:
    return cli.importlib.import_module(f"jepa_speech.cli.{verb}").EXAMPLE


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_ends_with_an_example(verb, capsys):
    assert cli.main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.rstrip().endswith(example(verb))
    assert "--json" in shown


@pytest.mark.parametrize("verb", cli.VERBS)
def test_the_example_is_a_command_that_parses(verb):
    program, *arguments = shlex.split(example(verb))
    assert program == "jepa-speech"
    assert cli.parse(arguments).verb == verb


def test_help_names_every_verb(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in cli.VERBS)


def test_module_and_console_script_are_the_same_program():
    shown = subprocess.run(
        [sys.executable, "-m", "jepa_speech", "demo", "--help"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith("usage: jepa-speech demo")


def test_processes_that_tests_start_import_this_checkout(tmp_path):
    code = "import jepa_speech; print(jepa_speech.__file__)"
    for environment in ({}, *environments(2, 2)):
        more = {"env": os.environ | environment, "cwd": tmp_path}
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **more)
        assert shown.stdout.strip() == str(Path(__file__).parents[1] / "jepa_speech" / "__init__.py")


@pytest.mark.parametrize("arguments", [[], ["prepair"], ["prepare"], ["demo", "--nonsense"]])
def test_a_wrong_command_line_is_exit_code_2(arguments, capsys):
    assert cli.main(arguments) == 2
    assert "usage: jepa-speech" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(UserError, 1), (UsageError, 2), (Interrupted, 75)])
def test_a_user_error_is_one_line_and_its_exit_code(error, code, monkeypatch, capsys):
    def fail(args):
        raise error("the disk is upside down: turn it")

    monkeypatch.setattr("jepa_speech.cli.demo.run", fail)
    assert cli.main(["demo"]) == code
    assert capsys.readouterr().err == "jepa-speech demo: the disk is upside down: turn it\n"


PLACES = {  # how a place comes to be none for a folder with a lock in it
    "below a file": lambda place: (place.write_text("x"), place / "run")[1],
    "a broken link": lambda place: (place.symlink_to("nowhere"), place)[1],
    "a link to itself": lambda place: (place.symlink_to(place), place)[1],
    "a folder named as the lock": lambda place: ((place / LOCK).mkdir(parents=True), place)[1],
    "a broken link named as the lock": lambda place: (place.mkdir(), (place / LOCK).symlink_to("no/where"), place)[2],
    "a long name": lambda place: place.with_name("x" * 300),
}


@pytest.mark.parametrize("kind", PLACES)
def test_a_place_that_cannot_be_written_is_one_line(kind, monkeypatch, tmp_path, capsys):
    place = PLACES[kind](tmp_path / "place")

    def work(args):
        with locked(place / LOCK, "demo"):
            pass

    monkeypatch.setattr("jepa_speech.cli.demo.run", work)
    assert cli.main(["demo"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(f"jepa-speech demo: {place}"[:60]) and "; free disk space or choose another place" in shown
    assert shown.count("\n") == 1


def test_json_holds_what_the_verb_returns(monkeypatch, tmp_path):
    monkeypatch.setattr("jepa_speech.cli.demo.run", lambda args: {"answer": 42})
    assert cli.main(["demo", "--json", str(tmp_path / "out.json")]) == 0
    about = "written by jepa-speech: results"
    assert json.loads((tmp_path / "out.json").read_text()) == {"about": about, "answer": 42}


def test_json_holds_what_is_known_when_the_verb_fails(monkeypatch, tmp_path):
    def fail(args):
        raise Interrupted("half is done", {"answer": 21})

    monkeypatch.setattr("jepa_speech.cli.demo.run", fail)
    assert cli.main(["demo", "--json", str(tmp_path / "out.json")]) == 75
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["answer"], found["error"]) == (21, "half is done")


FROZEN = """
import gc, sys
before = gc.get_freeze_count()  # Python 3.12 freezes some objects of its own
from jepa_speech import cli
assert cli.main(["inspect", "nowhere"]) == 1 and gc.get_freeze_count() == before
sys.argv = ["jepa-speech", "inspect", "nowhere"]
assert cli.main() == 1 and gc.get_freeze_count() > before
"""


def test_only_a_process_of_its_own_keeps_what_it_imported_from_the_garbage_collector():
    subprocess.run([sys.executable, "-c", FROZEN], check=True, stderr=subprocess.DEVNULL)


ODD = r"""
import sys
from jepa_speech import cli
from jepa_speech.cli import demo
demo.run = lambda options: print("\u2192 caf\udce9")
sys.argv = ["jepa-speech", "demo"]
sys.exit(cli.main())
"""


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_letter_that_the_terminal_does_not_know_ends_no_verb(encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    shown = subprocess.run([sys.executable, "-c", ODD], capture_output=True, check=True, env=environment)
    assert shown.stdout.endswith(rb"caf\udce9" + b"\n")


def test_ctrl_c_while_a_verb_is_imported_is_one_line(monkeypatch, capsys):
    def interrupted(verbs):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "parser", interrupted)
    assert cli.main(["probe"]) == 130
    assert capsys.readouterr().err == "jepa-speech: interrupted before the command began; run the same command again\n"


CONTROLS = ["\n", "\r\n", "\x1b[2J", "\x00", "\u2028", "\x85", "\t"]


@pytest.mark.parametrize("character", CONTROLS)
def test_a_message_is_one_line_whatever_a_name_holds(character, tmp_path, capsys):
    """A name from a manifest neither breaks the line nor reaches the terminal as a command."""
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(json.dumps({"audio_path": f"a{character}b.wav", "text": "Zoë 日本\u3000語"}) + "\n")
    assert cli.main(["prepare", "--check", "--input", str(manifest)]) == 1
    told = capsys.readouterr().err.removesuffix("\n")
    assert told.isprintable() and "b.wav: " in told
    assert str(UserError(f"Zoë 日本\u3000語{character}é")).startswith("Zoë 日本\u3000語\\")
