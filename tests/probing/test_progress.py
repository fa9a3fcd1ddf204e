"""Bars of what takes long."""

from jepa_speech.probing.progress import along


def test_nothing_to_do_has_no_bar(capsys):
    assert list(along([], "pictures", 0, "picture")) == []
    assert capsys.readouterr().err == ""
    assert list(along("ab", "pictures", 2, "picture")) == ["a", "b"]
    assert "pictures: 100%" in capsys.readouterr().err
