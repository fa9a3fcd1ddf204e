"""ownership.py: only what carries our mark is deleted or replaced."""

import pytest

from jepa_speech import ownership
from jepa_speech.errors import UserError
from jepa_speech.files import temporary_name, write_text


def test_a_marked_folder_goes_with_what_is_ours(tmp_path):
    folder = ownership.make(tmp_path / "work")
    for path in (folder / "plan.json", folder / "audio" / "a.flac", temporary_name(folder / "plan.json")):
        write_text(path, "ours")
    assert ownership.remove(folder, ("plan.json", "audio", "audio/*.flac"))
    assert not folder.exists()


def test_foreign_files_in_a_marked_folder_stay(tmp_path, capsys):
    folder = ownership.make(tmp_path / "work")
    for name in ("plan.json", "notes.txt", "audio/b.flac", ".notes.tmp"):
        write_text(folder / name, "text")
    (folder / "link.json").symlink_to(tmp_path)
    assert not ownership.remove(folder, ("plan.json", "audio"))
    assert not (folder / "plan.json").exists() and ownership.is_marked(folder)
    assert {path.name for path in folder.rglob("*")} == {ownership.MARK, "notes.txt", "audio", "b.flac", ".notes.tmp",
                                                        "link.json"}  # fmt: skip
    assert "kept" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["unmarked", "link", "file"])
def test_what_is_not_marked_stays(tmp_path, capsys, kind):
    path, other = tmp_path / "work", ownership.make(tmp_path / "other")
    write_text(other / "plan.json", "ours")
    if kind == "unmarked":
        write_text(path / "plan.json", "theirs")
    elif kind == "link":
        path.symlink_to(other)
    else:
        write_text(path, "theirs")
    assert not ownership.remove(path, ("plan.json",))
    assert path.exists() and (other / "plan.json").exists()
    error = capsys.readouterr().err
    assert error.startswith(f"{path}: kept") and error.count("\n") == 1


def test_only_our_temporary_files_go(tmp_path):
    ours, theirs = temporary_name(tmp_path / "a.json"), [tmp_path / name for name in (".a.tmp", ".a.partial", "b.tmp")]
    for path in (ours, *theirs):
        path.write_text("text")
    ownership.remove_temporaries(tmp_path, lambda name: name != "a.json")
    assert ours.exists()
    ownership.remove_temporaries(tmp_path)
    assert not ours.exists() and all(path.exists() for path in theirs)


def test_a_file_is_claimed_only_with_its_mark(tmp_path):
    new, ours, theirs = (tmp_path / name for name in ("new", "ours", "theirs"))
    ours.write_text("x" * 10_000 + ownership.mark("report"))
    theirs.write_text("jepa-speech is mentioned here")
    assert ownership.claim(new, ownership.mark("report")) == new
    assert ownership.claim(ours, ownership.mark("report")) == ours
    for path, marks in ((ours, ["results"]), (ours, []), (theirs, ["report"]), (tmp_path, ["report"])):
        with pytest.raises(UserError, match="choose another name"):
            ownership.claim(path, *map(ownership.mark, marks))


def test_a_link_is_written_through(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    write_text(link, "text")
    assert link.is_symlink() and target.read_text() == "text"
