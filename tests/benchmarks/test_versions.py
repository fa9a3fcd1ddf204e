"""benchmarks/versions.py: what it counts, and which row it replaces."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "versions.py"
JUNIT = """<?xml version="1.0"?><testsuites><testsuite name="pytest" errors="1" failures="2" skipped="3" tests="20"/>
</testsuites>"""


@pytest.fixture(scope="module")
def versions():
    spec = importlib.util.spec_from_file_location("versions", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_failed_or_was_skipped_has_not_passed(versions, tmp_path):
    (tmp_path / "junit.xml").write_text(JUNIT)
    assert versions.counted(tmp_path / "junit.xml") == {"passed": 14, "failed": 3, "skipped": 3}


def test_a_row_replaces_that_of_the_same_minor_version(versions):
    table = [versions.HEAD, ["3.13.0", "old"], ["3.9.1", "nine"]]
    table = versions.merged(versions.merged(table, ["3.11.7", "eleven"]), ["3.13.2", "new"])
    assert [row[1] for row in table] == [versions.HEAD[1], "nine", "eleven", "new"]
