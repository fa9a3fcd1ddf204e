import numpy as np
import pytest
from support.public_checkpoints import write_raw, write_safetensors

from jepa_speech.errors import UserError
from jepa_speech.huggingface import safetensors
from jepa_speech.huggingface.safetensors import read_safetensors


def entry(start: int, stop: int, shape: list, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def test_arrays_come_back_whatever_their_place(tmp_path):
    arrays = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.array(7, np.int64),
        "empty": np.zeros((0, 4), np.float32),
    }
    write_safetensors(tmp_path / "x", arrays)
    found = read_safetensors(tmp_path / "x")
    assert found.keys() == arrays.keys()
    for name, x in arrays.items():
        assert found[name].dtype == x.dtype
        np.testing.assert_array_equal(found[name], x)


def test_half_precision_of_both_kinds(tmp_path):
    data = np.array([1.5, -2], np.float16).tobytes() + np.array([0x3FC0, 0xC000], np.uint16).tobytes()
    write_raw(tmp_path / "x", {"h": entry(0, 4, [2], "F16"), "b": entry(4, 8, [2], "BF16")}, data)
    for x in read_safetensors(tmp_path / "x").values():
        np.testing.assert_array_equal(x.astype(np.float32), [1.5, -2])


@pytest.mark.parametrize(
    ("header", "data", "says"),
    [
        ({"a": entry(0, 8, [2])}, b"1234", "the bytes of 'a' are cut off"),
        ({"a": entry(0, 4, [1])}, b"12345678", "8 bytes of arrays, but its header gives 4"),  # more than it should be
        ({"a": entry(4, 8, [1])}, b"12345678", "offsets of 'a' do not fit its shape"),  # a gap
        (
            {"a": entry(0, 8, [2]), "b": entry(4, 12, [2])},
            b"123456789012",
            "offsets of 'b' do not fit its shape",
        ),  # an overlap
        (
            {"a": entry(0, 8, [2]), "b": entry(0, 8, [2])},
            b"12345678",
            "offsets of 'b' do not fit its shape",
        ),  # the same bytes twice
        ({"a": entry(0, 8, [3])}, b"12345678", "offsets of 'a' do not fit its shape"),  # another shape
        ({"a": entry(8, 0, [2])}, b"12345678", "offsets of 'a' do not fit its shape"),
        ({"a": entry(0, 8, [-1, -2])}, b"12345678", r"'a': shape\[0\] = -1: expected at least 0"),
        ({"a": entry(-8, 0, [2])}, b"12345678", r"'a': data_offsets\[0\] = -8"),
        ({"a": entry(0, 4, [1.0])}, b"1234", r"'a': shape\[0\] = 1.0: expected int"),
        ({"a": entry(0, 4, [True])}, b"1234", r"'a': shape\[0\] = True: expected int"),
        ({"a": entry(0, 0, [2**70, 0])}, b"", "at most 64 bits"),
        ({"a": entry(0, 0, [2**62, 2**62, 0])}, b"", "not those of an array"),
        ({"a": entry(0, 4, [1] * 65)}, b"1234", "not those of an array"),
        ({"a": entry(0, 4, [1]) | {"data_offsets": [0, 4, 4]}}, b"1234", "not those of an array"),
        ({"a": entry(0, 4, [1]) | {"data_offsets": "04"}}, b"1234", "'a': data_offsets = '04': expected list"),
        ({"a": entry(0, 4, None)}, b"1234", "'a': the field shape is missing"),
        ({"a": entry(0, 4, [1], ["F32"])}, b"1234", r"'a': dtype = \['F32'\]: expected str"),
        ({"a": {"dtype": "F32"}}, b"", "'a': the field shape is missing"),
        ({"a": 3}, b"", "'a': a JSON object was expected, not int"),
        ({"a\nb": None}, b"", r"'a\\nb': a JSON object"),
        ([1, 2], b"", "the header is not a JSON object"),
        ("a", b"", "the header is not a JSON object"),
        ({}, b"", "names no arrays"),
        ({"__metadata__": {"format": "pt"}}, b"", "names no arrays"),
        ({"__metadata__": 5, "a": entry(0, 4, [1])}, b"1234", "__metadata__ = 5: expected dict"),
        ({"__metadata__": {"format": 5}, "a": entry(0, 4, [1])}, b"1234", "__metadata__: format = 5: expected str"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(header, data, says, tmp_path):
    write_raw(tmp_path / "x", header, data)
    with pytest.raises(UserError, match=says) as error:
        read_safetensors(tmp_path / "x")
    assert "\n" not in str(error.value) and str(error.value).startswith(str(tmp_path / "x"))


def test_a_type_that_is_not_read_is_no_damage(tmp_path):
    """A sound file must not be called damaged: downloading it again would not help."""
    write_raw(tmp_path / "x", {"a": entry(0, 4, [4], "F8_E4M3")}, b"1234")
    with pytest.raises(UserError, match=r"'a' is of type 'F8_E4M3'; what can be read is F64, .*: save") as error:
        read_safetensors(tmp_path / "x")
    assert "download" not in str(error.value)


SAME = b'"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{]", "not valid JSON"),
        (b'{"\xff": 1}', "not valid JSON"),
        ('{"a": 1}'.encode("utf-16"), "not valid JSON"),
        (b"{" + SAME + b"," + SAME + b"}", "'a' more than once"),
        (b'{"a":{"dtype":"F32","dtype":"F16"}}', "'dtype' more than once"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", r"not valid JSON \(nested too deeply\); "),
        (b'{"__metadata__":' + b'{"b":' * 100_000 + b"1" + b"}" * 100_001, r"not valid JSON \(nested too deeply\); "),
        (b'{"a":' + b"9" * 5_000 + b"}", r"not valid JSON \(an integer of 5000 digits\); "),
        (b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,Infinity]}}', "data_offsets.1. = inf"),
    ],
)
def test_a_header_that_is_none_is_refused(text, says, tmp_path):
    (tmp_path / "x").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(UserError, match=says) as error:
        read_safetensors(tmp_path / "x")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"", b"1234", (100).to_bytes(8, "little") + b"{}", (2**64 - 1).to_bytes(8, "little")])
def test_what_has_no_header_is_refused(data, tmp_path):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(UserError, match="safetensors file"):
        read_safetensors(tmp_path / "x")


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    """As `git clone` leaves where Git LFS is not installed."""
    path = tmp_path / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n")
    with pytest.raises(UserError, match=rf"^{path}: a pointer of Git LFS, not the file itself: run `git lfs pull`"):
        read_safetensors(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.safetensors: cannot be read"):
        read_safetensors(tmp_path / "none.safetensors")


def test_what_is_written_is_read_and_what_cannot_be_written_leaves_the_old_file(tmp_path):
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3).T, "a": np.array(True), "c": np.zeros((0, 2), np.int64)}
    safetensors.write_safetensors(tmp_path / "x", arrays, {"format": "pt"})
    whole = (tmp_path / "x").read_bytes()
    found = read_safetensors(tmp_path / "x")
    assert found.keys() == arrays.keys()
    for name, x in arrays.items():
        assert found[name].dtype == x.dtype
        np.testing.assert_array_equal(found[name], x)
    with pytest.raises(KeyError):  # of a type that the format does not have
        safetensors.write_safetensors(tmp_path / "x", arrays | {"e": np.ones(2, np.complex64)}, {})
    assert (tmp_path / "x").read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
