"""Pieces of a long job: what a kill, a damaged disk or a second process leaves is never taken for whole."""

import subprocess
import sys

import pytest

from jepa_speech import partial
from jepa_speech.errors import UserError

PIECES = [("a.wav", (10, 1), {"text": "ä"}, b""), ("caf\udce9", (20, 2), {"frames": 3}, bytes(range(256)))]
PIECES += [("a b\nc", (30, 3), {"text": '{"x": 1}\n'}, b"\n{}\n"), ("last", (), {}, b"x" * 40)]


def begun(path, pieces=PIECES, job="job"):
    """The file as a kill leaves it after these pieces."""
    with pytest.raises(KeyboardInterrupt), partial.kept(path, job) as kept:
        for piece in pieces:
            kept.add(*piece)
        raise KeyboardInterrupt
    return path.read_bytes()


def test_a_piece_is_in_the_file_once_it_is_added(tmp_path):
    """A kill closes no file."""
    left = [begun(tmp_path / str(count), PIECES[:count]) for count in range(1, len(PIECES) + 1)]
    path, now = tmp_path / "out.partial", []
    with partial.kept(path, "job") as kept:
        for piece in PIECES:
            kept.add(*piece)
            now.append(path.read_bytes())
    assert now == left


def found(path):
    with pytest.raises(KeyboardInterrupt), partial.kept(path, "job") as kept:
        names = kept.names()
        for name, stamp, row, data in PIECES:
            assert (kept.row(name, stamp), name in names) in ((row, True), (None, False))
            assert name not in names or kept.data(name) == data
            assert kept.row(name, (99, 9)) is None  # another file by now
        raise KeyboardInterrupt
    return names


def test_it_goes_on_from_any_byte_at_which_it_was_killed(tmp_path):
    path = tmp_path / "out.partial"
    whole, ends = begun(path), []
    for count in range(len(PIECES) + 1):
        ends.append(len(begun(tmp_path / str(count), PIECES[:count])) if count else whole.index(b"\n") + 1)
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        names = found(path)
        assert names == [name for (name, *_), end in zip(PIECES, ends[1:], strict=True) if end <= cut]
    path.write_bytes(whole[:-1])
    assert begun(path, PIECES[-1:]) == whole


def test_a_damaged_piece_is_made_again(tmp_path):
    path = tmp_path / "out.partial"
    whole = begun(path)
    first, harmless = whole.index(b"\n") + 1, 0
    for at in range(first, len(whole), 7):
        for bit in (0, 5):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            harmless += len(found(path)) == len(PIECES)
    path.write_bytes(whole[:first] + b"[" * 100_000 + b"\n" + whole[first:])
    assert not found(path)
    assert harmless <= 2  # a letter of an escape in the other case says the same


def test_it_is_gone_when_the_job_is_done_and_when_there_was_nothing(tmp_path):
    path = tmp_path / "deep" / "out.partial"
    with partial.kept(path, "job") as kept:
        kept.add(*PIECES[0])
    assert not list(path.parent.iterdir())
    with pytest.raises(KeyboardInterrupt), partial.kept(path, "job"):
        raise KeyboardInterrupt
    assert not list(path.parent.iterdir())
    with pytest.raises(KeyboardInterrupt), partial.kept(tmp_path / "new" / "out.partial", "job"):
        raise KeyboardInterrupt
    assert not (tmp_path / "new").exists()


def test_what_is_of_another_job_program_or_process_stays(tmp_path):
    path = tmp_path / "out.partial"
    whole = begun(path)
    with (
        pytest.raises(UserError, match=r"out\.partial: belongs to a command with another model or other options"),
        partial.kept(path, "other"),
    ):
        pass
    assert path.read_bytes() == whole
    path.write_text("my own notes\n")
    with pytest.raises(UserError, match=r"out\.partial: not written by jepa-speech"), partial.kept(path, "job"):
        pass
    assert path.read_text() == "my own notes\n"
    path.write_bytes(whole)
    code = (
        "import pathlib, sys\nfrom jepa_speech.partial import kept\nwith kept(pathlib.Path(sys.argv[1]), 'job'): pass"
    )
    with pytest.raises(KeyboardInterrupt), partial.kept(path, "job"):
        other = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
        raise KeyboardInterrupt
    assert other.returncode and "out.partial: in use by another process" in other.stderr and path.read_bytes() == whole
