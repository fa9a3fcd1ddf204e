"""docs/notebook.md: its Python runs as it is shown, on a corpus of toy size."""

from support import pages
from support.labelled_corpus import write_spoken
from support.toys import CONFIGS

from jepa_speech.probing import phones
from jepa_speech.probing.linear import Recipe


def test_every_block_runs_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(phones, "RECIPE", Recipe(steps=20))
    corpus = write_spoken(tmp_path / "spoken")
    first, *others = pages.blocks(pages.text("notebook.md"))
    toy = {"recordings": corpus / "audio", "labelled": corpus, "work": tmp_path / "work"}
    toy |= {"config": CONFIGS / "tiny.py", "components": 16, "steps": 3}
    names: dict = {}
    exec(first, names)
    assert names.keys() - {"__builtins__"} == toy.keys(), "the first block sets what a reader changes"
    names |= toy
    for number, block in enumerate(others, 2):
        exec(compile(block, f"notebook.md, block {number}", "exec"), names)
    frames = len(names["layers"][-1])
    assert names["predicted"].shape == (frames, 16) and names["probs"].shape == names["ids"].shape
    assert len(names["losses"]) == names["trained"]["step"] == 3 and names["heldout"]["recordings"] == 18
    assert 0 <= names["accuracy"]["low"] <= names["accuracy"]["value"] <= 1
    assert names["inside"]["report"] and (tmp_path / "work" / "analysis" / "report.html").is_file()
