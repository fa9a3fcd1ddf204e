"""The verb: what it prints, writes and returns."""

import json

from tones import write_tones

from jepa_speech.cli import main


def test_prepare_from_the_command_line(tmp_path, capsys):
    write_tones(tmp_path / "audio", 3)
    (tmp_path / "audio" / "broken.wav").write_bytes(b"")
    command = ["prepare", "--input", str(tmp_path / "audio"), "--out", str(tmp_path / "store"), "--workers", "1"]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "1 of 4" in error and "--max-reject-fraction" in error
    assert main([*command, "--max-reject-fraction", "0.5", "--json", str(tmp_path / "results.json")]) == 0
    out = capsys.readouterr().out
    assert "3 recordings" in out and "1 rejected (unreadable 1)" in out
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["records"], results["rejected"], results["read"]) == (3, 1, 4)
    assert results["fingerprint"] == json.loads((tmp_path / "store" / "store.json").read_text())["fingerprint"]


def test_wrong_command_lines(tmp_path, capsys):
    assert main(["prepare", "--input", str(tmp_path / "none"), "--out", str(tmp_path / "store")]) == 1
    assert "no such folder or manifest" in capsys.readouterr().err
    assert main(["prepare", "--out", str(tmp_path / "store")]) == 2
    assert main(["prepare", "--input", str(tmp_path), "--out", str(tmp_path / "store"), "--codec", "mp3"]) == 2
    assert main(["prepare", "--help"]) == 0
    assert "example:" in capsys.readouterr().out
