"""The anchor of a run's targets, found by the run's config."""

from pathlib import Path

from support import toys
from support.toys import toy_anchor

from jepa_speech.analysis.subject import open_anchor
from jepa_speech.settings.run_config import RunConfig


def anchored_by(path: str) -> RunConfig:
    return toys.typed(toys.toy_config(anchor={"path": path}))


def test_analyze_finds_an_anchor_whose_path_has_a_colon_or_a_comma(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("v:2", "a,b"):
        Path(folder).mkdir()
        toy_anchor().save(Path(folder, "g.npz"))
        for text in (f'"{folder}/g.npz"', f"{folder}/g.npz", f"{folder}/g.npz:1"):
            anchor, why = open_anchor(anchored_by(text), None)
            assert anchor is not None and why == ""
    assert "an ensemble of anchors" in open_anchor(anchored_by("v:2/g.npz:1,a,b/g.npz:1"), None)[1]
    assert "the config names no anchor" in open_anchor(anchored_by(""), None)[1]
    assert "nowhere.npz does not exist" in open_anchor(anchored_by("v:2/g.npz"), "nowhere.npz")[1]
