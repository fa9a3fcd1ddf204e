"""`prepare --check`: what is wrong with inputs, before anything is written."""

import json

import soundfile
from support.audio_files import tone, write_tones

from jepa_speech.cli import main
from jepa_speech.store.checking import FIXES, check


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_good_inputs(tmp_path, capsys):
    write_tones(tmp_path / "audio", 3, seconds=1.0)
    before = sorted(tmp_path.rglob("*"))
    command = ["prepare", "--check", "--input", str(tmp_path / "audio")]
    assert main(command) == 0
    assert (
        capsys.readouterr().out == "3 recordings: 3 good (3.0 s); only headers were read: --check full decodes, too\n"
    )
    assert main(["prepare", "--check", "full", *command[2:], "--out", str(tmp_path / "store")]) == 0
    assert capsys.readouterr().out == "3 recordings: 3 good (3.0 s); all decoded\n"
    assert sorted(tmp_path.rglob("*")) == before


def test_the_first_bad_line_is_named_with_a_fix(tmp_path, capsys):
    write_tones(tmp_path, 3, seconds=1.0)
    manifest = lines(
        tmp_path / "m.jsonl",
        {"path": "tone000.wav"},
        {"path": "tone001.wav", "duration": 9.0},
        {"path": "tone001.wav"},
        {"path": "none.wav"},
    )
    assert main(["prepare", "--check", "--input", str(manifest)]) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith("4 recordings: 1 good (1.0 s), 1 duplicate, 1 duration_mismatch, 1 missing; only ")
    start = (
        f"jepa-speech prepare: {manifest}:2: tone001.wav: duration_mismatch: 1.01 s long, but its manifest says 9 s; "
    )
    assert shown.err == start + FIXES["duration_mismatch"] + "\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.jsonl"] + [f"tone00{i}.wav" for i in range(3)]


def test_only_a_full_check_decodes(tmp_path):
    soundfile.write(tmp_path / "x.flac", tone(2.0), 16_000)
    data = bytearray((tmp_path / "x.flac").read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / "x.flac").write_bytes(data)
    assert check([tmp_path])["good"] == 1
    assert check([tmp_path], full=True)["reasons"] == {"unreadable": 1}


def test_json_is_written_on_failure_too(tmp_path, capsys):
    """Of a check, of a prepare, whatever their exit code: all that is wrong, and the message."""
    write_tones(tmp_path / "audio", 2)
    for name in ("bad.wav", "worse.flac"):
        (tmp_path / "audio" / name).write_bytes(b"no audio")
    manifest = lines(tmp_path / "m.jsonl", {"path": "audio/tone000.wav"}, {"path": "audio/bad.wav"}, {"text": "x"})
    found = tmp_path / "found.json"
    for how in (["--check"], ["--check", "full"], ["--out", str(tmp_path / "store")]):
        command = ["prepare", "--input", str(tmp_path / "audio"), str(manifest), *how, "--json", str(found)]
        assert main(command) == 1
        results, error = json.loads(found.read_text()), capsys.readouterr().err
        assert error.endswith(f"jepa-speech prepare: {results['error']}\n")
        assert results["reasons"] == {"unreadable": 2, "duplicate": 2, "no_audio_path": 1} and results["read"] == 7
        if "--check" in how:
            assert len(results["rejects"]) == 5 and results["decoded"] == ("full" in how)
            row = results["rejects"][-1]
            assert (row["manifest"], row["line"], row["reason"]) == (str(manifest), 3, "no_audio_path")
        found.unlink()
    assert results["whole"] is False and results["rejected"] == 5
    assert main([*command[:-1], str(tmp_path)]) == 2 and "name a file" in capsys.readouterr().err


def test_root_allows_more(tmp_path, capsys):
    write_tones(tmp_path / "audio", 1)
    (tmp_path / "lists").mkdir()
    manifest = lines(tmp_path / "lists" / "m.jsonl", {"path": "../audio/tone000.wav"})
    command = ["prepare", "--input", str(manifest), "--workers", "1"]
    assert main([*command, "--check"]) == 1
    assert "outside_root" in (error := capsys.readouterr().err) and "--root DIR" in error
    assert main([*command, "--check", "--root", str(tmp_path)]) == 0
    assert main([*command, "--out", str(tmp_path / "store")]) == 1
    assert main([*command, "--out", str(tmp_path / "store2"), "--root", str(tmp_path)]) == 0
    assert main(command) == 2 and "--out STORE is missing" in capsys.readouterr().err


def test_every_verdict_has_a_fix():
    """Whatever reason the code gives has its remedy."""
    import re
    from pathlib import Path

    import jepa_speech

    package = Path(jepa_speech.__file__).parent
    named = set()
    for path in [*package.glob("ingest/**/*.py"), *package.glob("store/*.py")]:
        named |= set(re.findall(r'(?:Rejected|refused)\(\s*"(\w+)"', path.read_text(encoding="utf-8")))
    assert len(named) > 15 and named <= set(FIXES), named - set(FIXES)
    page = (package.parent / "docs" / "data.md").read_text(encoding="utf-8")
    assert all(f"`{reason}`" in page for reason in FIXES)
