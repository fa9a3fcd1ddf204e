import ast
from pathlib import Path

import pytest

from jepa_speech.wording import counted, duration, quoted

PACKAGE = Path(__file__).parents[1] / "jepa_speech"


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 recordings"), (1, "1 recording"), (2, "2 recordings"), (1200, "1,200 recordings")]
)
def test_counts(number, text):
    assert counted(number, "recording") == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (3, "3.0 s"), (72, "1.2 min"), (3599, "60.0 min"), (5400, "1.50 h")]
)
def test_durations(seconds, text):
    """None is shown as 0.00 unless it is nothing."""
    assert duration(seconds / 3600) == text


def values_in_commands(source: str) -> list[str]:
    """The expressions that f-strings insert into commands of this program, which are in backticks or follow "next:"."""
    found = []
    for node in ast.walk(ast.parse(source)):
        text = ""
        for part in node.values if isinstance(node, ast.JoinedStr) else ():
            if isinstance(part, ast.Constant):
                text += str(part.value)
            elif isinstance(part, ast.FormattedValue):
                command = text.rpartition("`")[2] if text.count("`") % 2 else text.rpartition("next: ")[2]
                if command.startswith(("jepa-speech ", "--")) and (command != text):
                    found.append(ast.unparse(part.value))
                text += "X"
    return found


def test_paths_in_commands_that_are_shown_are_quoted():
    found = {path: values_in_commands(path.read_text()) for path in PACKAGE.rglob("*.py")}
    assert sum(map(len, found.values())) > 15
    for path, values in found.items():
        assert all(value.startswith("quoted(") or value == "tasks" for value in values), (path, values)


def test_a_path_with_spaces_is_one_word():
    assert quoted(Path("my runs/a")) == "'my runs/a'" and quoted("gs://b/runs") == "gs://b/runs"
