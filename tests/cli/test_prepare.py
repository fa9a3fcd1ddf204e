"""The verb: what it prints, writes and returns."""

import json

from support.audio_files import write_tones

from jepa_speech.cli import main


def test_prepare_from_the_command_line(tmp_path, capsys):
    write_tones(tmp_path / "audio", 3)
    (tmp_path / "audio" / "broken.wav").write_bytes(b"")
    command = ["prepare", "--input", str(tmp_path / "audio"), "--out", str(tmp_path / "store"), "--workers", "1"]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "1 of 4" in error and "max_reject_fraction" in error
    assert main([*command, "--max-reject-fraction", "0.5", "--json", str(tmp_path / "results.json")]) == 0
    out = capsys.readouterr().out
    assert "3 recordings" in out and "1 rejected (unreadable 1)" in out
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["records"], results["rejected"], results["read"]) == (3, 1, 4)
    assert results["fingerprint"] == json.loads((tmp_path / "store" / "store.json").read_text())["fingerprint"]


def test_labels_that_were_found_are_counted(tmp_path, capsys):
    write_tones(tmp_path, 3)
    rows = [{"path": f"tone{i:03}.wav", "sentence": "a", "lang": "en", "age": 3 if i else None} for i in range(3)]
    wide = [row | {f"x{i:02}": 1 for i in range(20)} for row in rows]
    for name, content in (("m.jsonl", rows), ("wide.jsonl", wide)):
        (tmp_path / name).write_text("\n".join(json.dumps(row) for row in content))
    store = str(tmp_path / "store")
    command = ["prepare", "--input", str(tmp_path / "m.jsonl"), "--out", store, "--workers", "1"]
    assert main([*command, "--json", str(tmp_path / "results.json")]) == 0
    assert "labels: text 3, lang 3, age 2\n" in capsys.readouterr().out
    assert json.loads((tmp_path / "results.json").read_text())["fields"] == {"text": 3, "lang": 3, "age": 2}
    assert main(command) == main(["inspect", store]) == 0  # the same of a store that was whole
    out = capsys.readouterr().out
    assert "labels: text 3, lang 3, age 2\n" in out and "labels       text 3, lang 3, age 2\n" in out
    assert main([*command[:2], str(tmp_path / "wide.jsonl"), "--out", f"{store}2", "--workers", "1"]) == 0
    assert "x09 3, and 11 more\n" in capsys.readouterr().out


def test_wrong_command_lines(tmp_path, capsys):
    assert main(["prepare", "--input", str(tmp_path / "none"), "--out", str(tmp_path / "store")]) == 1
    assert "no such folder or manifest" in capsys.readouterr().err
    assert main(["prepare", "--out", str(tmp_path / "store")]) == 2
    assert main(["prepare", "--input", str(tmp_path), "--out", str(tmp_path / "store"), "--codec", "mp3"]) == 2
    assert main(["prepare", "--help"]) == 0
    assert "example:" in capsys.readouterr().out
