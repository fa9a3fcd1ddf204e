"""Fixtures of the tests of the Python API."""

import pytest


@pytest.fixture(autouse=True)
def nothing_is_printed(capsys):
    """Every test in this folder fails if a function prints. A test of `progress` reads its bars from capsys."""
    yield
    assert capsys.readouterr() == ("", "")
