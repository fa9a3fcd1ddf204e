"""`jepa_speech.prepare` and `check_inputs`."""

import subprocess
import sys

import pytest
from support.audio_files import write_tones

import jepa_speech
from jepa_speech.errors import UsageError, UserError


def test_a_store_of_one_folder_and_its_figures(tmp_path, capsys):
    write_tones(tmp_path / "audio", 3, seconds=1.0)
    results = jepa_speech.prepare(tmp_path / "audio", tmp_path / "store", workers=1)
    assert (results["records"], results["read"], results["whole"], results["fields"]) == (3, 3, True, {})
    assert results["hours"] == pytest.approx(3 / 3600, rel=0.02)
    again = jepa_speech.prepare([str(tmp_path / "audio")], tmp_path / "store", workers=1)
    assert again == results and capsys.readouterr() == ("", "")
    shown = jepa_speech.prepare(tmp_path / "audio", tmp_path / "other", workers=1, progress=True)
    assert shown["fingerprint"] == results["fingerprint"]
    assert "prepare: 100%" in capsys.readouterr().err


SCRIPT = """
import jepa_speech
print(jepa_speech.prepare("audio", "store", workers=2, shard_mb=0.001)["shards"])
"""


def test_a_script_without_a_guard_runs_once(tmp_path):
    write_tones(tmp_path / "audio", 2)
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py"]
    ran = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("2\n", "")


def test_inputs_are_checked_and_nothing_is_written(tmp_path):
    write_tones(tmp_path, 2, seconds=1.0)
    (tmp_path / "broken.wav").write_bytes(b"")
    before = sorted(tmp_path.iterdir())
    found = jepa_speech.check_inputs(tmp_path, full=True)
    assert (found["read"], found["good"], found["reasons"]) == (3, 2, {"unreadable": 1})
    assert "broken.wav: unreadable" in found["first_bad"] and sorted(tmp_path.iterdir()) == before
    with pytest.raises(UserError, match=r"1 of 3 .* a larger max_reject_fraction") as caught:
        jepa_speech.prepare(tmp_path, tmp_path / "store", workers=1)
    assert caught.value.results["reasons"] == {"unreadable": 1}


@pytest.mark.parametrize(
    "wrong", [{"codec": "mp3"}, {"workers": 0}, {"max_reject_fraction": 2}, {"shard_mb": 0}, {"part": (2, 2)}]
)
def test_a_wrong_argument_is_named(wrong, tmp_path):
    ((name, value),) = wrong.items()
    with pytest.raises(UsageError) as caught:
        jepa_speech.prepare(tmp_path, tmp_path / "store", **wrong)
    assert str(caught.value).startswith(f"{name} = {value!r}: ")
