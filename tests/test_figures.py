"""Every table of README and docs under `<!-- benchmarks/NAME.json -->` is that file's "table", cell by cell."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
MARKER = re.compile(r"<!-- *(benchmarks/[\w./-]+\.json) *-->\n((?:\|.*\n)*)")
MADE_BY = {  # where the command is another than `python benchmarks/NAME.py`
    "cpu": "make bench",
    "gpu_again": "python benchmarks/gpu.py --only online dinosr spidr hubert features",
    **dict.fromkeys(("at_800", "labels_at_800"), "jepa-speech compare --config configs/ladder.py"),
    "compare": "jepa-speech compare --config configs/compare_small.py",
}


def marked(text: str) -> dict[str, list[list[str]]]:
    """The rows of each marked table of a page, without the line below its head."""
    tables = {}
    for name, block in MARKER.findall(text):
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        assert len(lines) > 2, f"no table follows the marker of {name}"
        assert set("".join(lines[1])) <= set("-:"), f"{name}: {lines[1]}"
        assert name not in tables, f"{name} is marked twice"
        tables[name] = [lines[0], *lines[2:]]
    return tables


def differing(text: str) -> list[str]:
    """The files whose table is not the one in `text`."""
    return [name for name, rows in marked(text).items() if rows != table_of(name)]


def table_of(name: str) -> list[list[str]]:
    return json.loads((ROOT / name).read_text(encoding="utf-8"))["table"]


@pytest.mark.parametrize("name", sorted({name for text in PAGES.values() for name in marked(text)}))
def test_a_report_beside_the_figures_has_the_same_table(name):
    report = (ROOT / name).with_suffix(".md")
    if report.exists():
        text = f"<!-- {name} -->\n" + report.read_text(encoding="utf-8")
        assert not differing(text[: text.index("\n\n")] + "\n" if "\n\n" in text else text)


def test_pages_show_what_was_measured():
    everywhere = {Path(name).name for text in PAGES.values() for name in marked(text)}
    assert {"phones.json", "objectives.json", "compare.json"} <= everywhere
    for page, text in PAGES.items():
        assert len(marked(text)) == text.count("<!-- benchmarks/"), page
        assert not differing(text), page


@pytest.mark.parametrize(("page", "name"), [(page, name) for page, text in PAGES.items() for name in marked(text)])
def test_a_page_gives_the_command_and_one_other_digit_is_noticed(page, name):
    text = PAGES[page]
    command = MADE_BY.get(Path(name).stem, f"python {name.removesuffix('.json')}.py")
    assert re.search(rf"(^|`){re.escape(command)}\b", text, re.M), command
    block = next(block for found, block in MARKER.findall(text) if found == name)
    digit = re.search(r"\d(?=[^\d]*\n\Z)", block)
    other = block[: digit.start()] + str((int(digit.group()) + 1) % 10) + block[digit.end() :]
    assert differing(text.replace(block, other)) == [name]
    without_a_row = "".join(block.splitlines(keepends=True)[:-1])
    assert differing(text.replace(block, without_a_row)) == [name]
