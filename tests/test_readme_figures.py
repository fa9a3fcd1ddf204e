"""Every table of README that stands under `<!-- benchmarks/NAME.json -->` is that file's "table", cell by cell."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MARKER = re.compile(r"<!-- *(benchmarks/[\w./-]+\.json) *-->\n((?:\|.*\n)*)")
MADE_BY = {  # where the command is another than `python benchmarks/NAME.py`
    "cpu": "make bench",
    "gpu_again": "python benchmarks/gpu.py --only online dinosr spidr hubert features",
    "compare": "jepa-speech compare --config configs/compare_small.py",
}


def marked(text: str) -> dict[str, list[list[str]]]:
    """The rows of each marked table, without the line below its head."""
    tables = {}
    for name, block in MARKER.findall(text):
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        assert len(lines) > 2, f"under the marker of {name} stands no table"
        assert set("".join(lines[1])) <= set("-:"), f"{name}: {lines[1]}"
        assert name not in tables, f"{name} stands there twice"
        tables[name] = [lines[0], *lines[2:]]
    return tables


def differing(text: str) -> list[str]:
    """The files whose table is not the one in `text`."""
    return [name for name, rows in marked(text).items() if rows != table_of(name)]


def table_of(name: str) -> list[list[str]]:
    return json.loads((ROOT / name).read_text(encoding="utf-8"))["table"]


def test_readme_shows_what_was_measured():
    assert {"benchmarks/phones.json", "benchmarks/objectives.json", "benchmarks/compare_small/compare.json"} <= marked(
        README
    ).keys()
    assert len(marked(README)) == README.count("<!-- benchmarks/")
    assert not differing(README)


@pytest.mark.parametrize("name", marked(README))
def test_the_command_stands_in_readme(name):
    command = MADE_BY.get(Path(name).stem, f"python {name.removesuffix('.json')}.py")
    assert re.search(rf"(^|`){re.escape(command)}\b", README, re.M), command


@pytest.mark.parametrize("name", marked(README))
def test_one_other_digit_is_noticed(name):
    block = next(block for found, block in MARKER.findall(README) if found == name)
    digit = re.search(r"\d(?=[^\d]*\n\Z)", block)
    other = block[: digit.start()] + str((int(digit.group()) + 1) % 10) + block[digit.end() :]
    assert differing(README.replace(block, other)) == [name]
    without_a_row = "".join(block.splitlines(keepends=True)[:-1])
    assert differing(README.replace(block, without_a_row)) == [name]
