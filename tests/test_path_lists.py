"""A path with a colon or a comma in its name is that path, and nothing else is read in its place."""

import numpy as np
import pytest

from jepa_speech.errors import UsageError
from jepa_speech.path_lists import as_text, mixture, path_and_rest, weighted_paths

NAMES = ("st", "st:2024", "a,b", "a", "b", "run-1e3", "10:00", "x:1,y", "x", "y")


@pytest.fixture(autouse=True)
def made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            (tmp_path / name).mkdir()

    return make


@pytest.mark.parametrize(
    "name", ["st:2024", "a,b", "2026-11-28T10:00", "x:1,y:2", "a:.5", "c,", "a,,b", ":3", 'q"u,o"te:1']
)
@pytest.mark.parametrize("quoted", [False, True])
def test_what_exists_as_written_comes_first(made, name, quoted):
    made(name)
    if quoted and '"' not in name:
        assert weighted_paths(f'"{name}"', "data.store") == [(name, 1.0)]
        assert weighted_paths(f'"{name}":0.5', "data.store") == [(name, 0.5)]
    else:
        assert weighted_paths(name, "data.store") == [(name, 1.0)]
    assert weighted_paths(f"{name}:0.5", "data.store") == [(name, 0.5)]


def test_a_list_may_be_longer_than_a_file_name(made):
    names = [f"store-{number}" for number in range(40)]
    made(*names)
    assert weighted_paths(",".join(f"{name}:1" for name in names), "data.store") == [(name, 1.0) for name in names]


def test_weights_and_commas_of_names_in_one_list(made):
    made("a,b", "st:2024", "c")
    assert weighted_paths("a,b:1,st:2024:0.5, c:3", "anchor.path") == [("a,b", 1), ("st:2024", 0.5), ("c", 3)]


@pytest.mark.parametrize(
    ("there", "text"),
    [
        (["st", "st:2024"], "st:2024"),
        (["a:1,b", "a", "b"], "a:1,b:2"),
        (["a:1,b:2", "a", "b"], "a:1,b:2"),
        (["st", "st:2024", "c"], "st:2024,c:1"),
        (["st", "st:2", "st:2:3"], "st:2:3"),
    ],
)
def test_two_readings_are_refused_and_quotes_decide(made, there, text):
    made(*there)
    with pytest.raises(UsageError, match=r"anchor.path = .* two ways: .* double quotes"):
        weighted_paths(text, "anchor.path")
    assert weighted_paths(f'"{there[0]}"', "anchor.path") == [(there[0], 1.0)]
    assert weighted_paths(f'"{there[0]}":2024', "anchor.path") == [(there[0], 2024.0)]


def test_a_path_that_is_missing_is_never_another(made):
    made("a")
    with pytest.raises(UsageError, match=r"'a' in a mixture; .* no 'a,b' exists; put double quotes"):
        weighted_paths("a,b", "data.store")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_down_is_read_back_wherever_it_is(name):
    for paths in ([(name, 1.0)], [(name, 0.25)], [(name, 0.1), ("st:5", 2.0)]):
        assert mixture(as_text(paths), "data.store") == paths


def test_any_path_is_read_back():
    """Drawn of the characters that have a meaning in lists, in quotes and to strip."""
    random = np.random.default_rng(0)
    for _ in range(3000):
        names = [
            "".join(random.choice([*"ab:,\"' .1-\n"], random.integers(1, 7))) for _ in range(random.integers(1, 4))
        ]
        paths = [(name, float(random.choice([1, 0.5, 1e-7]))) for name in names]
        assert mixture(as_text(paths), "data.store") == paths, as_text(paths)
        assert path_and_rest(as_text([(names[0], 1.0)]), lambda path, rest: not rest, "--config") == (names[0], "")


def test_files_with_a_variant(made, tmp_path):
    made("v1:2")
    (tmp_path / "v1:2" / "c.py").touch()

    def is_file(path, _):
        return (tmp_path / path).is_file()

    assert path_and_rest("v1:2/c.py", is_file, "--config") == ("v1:2/c.py", "")
    assert path_and_rest("v1:2/c.py:runs/a:b", is_file, "--config") == ("v1:2/c.py", "runs/a:b")
    (tmp_path / "v1:2" / "c.py:x").touch()
    with pytest.raises(UsageError, match=r"--config v1:2/c.py:x can be read in two ways"):
        path_and_rest("v1:2/c.py:x", is_file, "--config")
    assert path_and_rest('"v1:2/c.py":x', is_file, "--config") == ("v1:2/c.py", "x")
