import pytest

from jepa_speech.errors import UserError
from jepa_speech.files import read_json, read_jsonl, read_object

NOT_JSON = {
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "an integer of 10,000 digits": b'{"a": ' + b"1" * 10_000 + b"}",
    "a name twice": b'{"a": 1, "b": {"c": 1, "d": 2, "c": 1}}',
    "cut off": b'{"a": "x',
    "empty": b"",
    "two values": b"{} {}",
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_what_is_not_json_is_one_line(tmp_path, name):
    path = tmp_path / "x.json"
    path.write_bytes(NOT_JSON[name])
    with pytest.raises(UserError, match=r"x\.json: not valid JSON") as error:
        read_json(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    path.write_bytes(b'{"a": 1}\n' + NOT_JSON[name] + b"\n")
    rows = read_jsonl(path)
    assert next(rows) == {"a": 1}
    with pytest.raises(UserError, match=r"x\.json:2: not valid JSON"):
        list(rows)


def test_reasons_are_not_pythons_own(tmp_path):
    path = tmp_path / "x.json"
    for name, reason in (
        ("deep lists", "nested too deeply"),
        ("deep objects", "nested too deeply"),
        ("an integer of 10,000 digits", "an integer of 10000 digits"),
        ("a name twice", "the name 'c' more than once"),
    ):
        path.write_bytes(NOT_JSON[name])
        with pytest.raises(UserError) as error:
            read_json(path)
        assert str(error.value) == f"{path}: not valid JSON ({reason})"


@pytest.mark.parametrize("text", ["[]", "3", "null", '"{}"'])
def test_an_object_is_what_was_asked_for(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    for read in (read_object, lambda path: list(read_jsonl(path))):
        with pytest.raises(UserError, match=r"x\.json.*: a JSON object was expected"):
            read(path)


def test_json_is_read_as_it_is(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes('{"ä": [1, 1.5, null, true, {"b": "\\ud800"}]}\r\n'.encode())
    assert read_object(path) == {"ä": [1, 1.5, None, True, {"b": "\ud800"}]} == next(read_jsonl(path))
