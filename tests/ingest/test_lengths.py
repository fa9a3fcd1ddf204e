"""Recordings that `prepare` rejects by a requested length."""

import json

import pytest
import soundfile
from support.audio_files import tone
from support.older_stores import as_an_older_store

from jepa_speech import cli
from jepa_speech.errors import UsageError, UserError
from jepa_speech.store.prepare import merge, prepare
from jepa_speech.store.store import Store

SECONDS = (0.1, 0.5, 0.3, 2.0, 0.2, 1.0)


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lengths")
    for i, seconds in enumerate(SECONDS):
        soundfile.write(folder / f"{i}.wav", tone(seconds, i), 16_000)
    return folder


def lengths(store) -> list[float]:
    return [row["duration"] for row in Store(store).records()]


def test_rejects_by_length_are_counted_and_stop_nothing(tones, tmp_path, capsys):
    command = ["prepare", "--input", str(tones), "--min-seconds", "0.3", "--max-seconds", "1.5"]
    store, report = str(tmp_path / "store"), tmp_path / "report.json"
    assert cli.main([*command, "--out", store, "--workers", "1", "--json", str(report)]) == 0
    assert "3 rejected (too_long 1, too_short 2): see" in capsys.readouterr().out
    assert json.loads(report.read_text())["reasons"] == {"too_short": 2, "too_long": 1}
    assert lengths(store) == [0.5, 0.3, 1.0]  # one of just the shortest length stays
    rejects = {row["source"][-5:]: (row["reason"], row["detail"]) for row in Store(store).rejects()}
    assert rejects["0.wav"] == ("too_short", "0.100 s, but min_seconds is 0.3")
    assert rejects["3.wav"] == ("too_long", "2.000 s, but max_seconds is 1.5")
    for how in ("headers", "full"):
        assert cli.main([*command, "--check", how, "--json", str(report)]) == 0
        checked = json.loads(report.read_text())
        assert (checked["good"], checked["reasons"]) == (3, {"too_short": 2, "too_long": 1})


def test_segments_and_parts(tones, tmp_path):
    rows = [
        {"path": "3.wav", "offset": at, "duration": seconds} for at, seconds in ((0.0, 0.2), (0.5, 0.4), (1.0, 0.9))
    ]
    manifest = tones / "segments.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for i in (1, 0):
        prepare([manifest], tmp_path / "parts", workers=1, part=(i, 2), shard_mb=0.01, min_seconds=0.4)
    with pytest.raises(UserError, match="was prepared with another min_seconds"):
        prepare([manifest], tmp_path / "parts", workers=1, shard_mb=0.01)
    assert merge(tmp_path / "parts")["reasons"] == {"too_short": 1}
    assert lengths(tmp_path / "parts") == [0.4, 0.9]
    prepare([manifest], tmp_path / "whole", workers=1, shard_mb=0.01, min_seconds=0.4)
    assert (tmp_path / "whole/store.json").read_bytes() == (tmp_path / "parts/store.json").read_bytes()
    manifest.unlink()


@pytest.mark.parametrize("keys", [{}, {"min_seconds": 0.4}, {"max_seconds": 0.4}])
def test_other_lengths_are_another_store_and_older_stores_have_none(keys, tones, tmp_path):
    prepare([tones], tmp_path / "store", workers=1, **keys)
    if not keys:
        as_an_older_store(tmp_path / "store")
    for other in ({}, {"min_seconds": 0.4}, {"max_seconds": 0.4}):
        if other == keys:
            assert prepare([tones], tmp_path / "store", workers=1, **other)["whole"]
        else:
            with pytest.raises(UserError, match=r"was prepared with another m(in|ax)_seconds"):
                prepare([tones], tmp_path / "store", workers=1, **other)


def test_what_is_bad_still_stops_it_and_lengths_that_cannot_be_are_refused(tones, tmp_path):
    (tmp_path / "in").mkdir()
    for path in tones.iterdir():
        (tmp_path / "in" / path.name).symlink_to(path)
    (tmp_path / "in" / "bad.wav").write_bytes(b"?" * 100)
    with pytest.raises(UserError, match=r"1 of 7 recordings rejected \(first: .*bad.wav, unreadable: "):
        prepare([tmp_path / "in"], tmp_path / "store", workers=1, min_seconds=0.3, root=tones)
    with pytest.raises(UserError, match=r"6 of 6 recordings rejected \(first: .*0.wav, too_short: 0.100 s, but"):
        prepare([tones], tmp_path / "none", workers=1, min_seconds=3)
    assert prepare([tones], tmp_path / "none", workers=1, min_seconds=0.3)["records"] == 4  # nothing was stored yet
    for keys in ({"min_seconds": -1}, {"max_seconds": -1}, {"min_seconds": 2, "max_seconds": 1}):
        with pytest.raises(UsageError, match=r"min_seconds, max_seconds = .*: both must be 0 or more"):
            prepare([tones], tmp_path / "x", **keys)
