import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jepa_speech.errors import UserError
from jepa_speech.huggingface.safetensors import DTYPES, read_safetensors, write_safetensors


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    arrays = {f"x.{kind}": rng.normal(0, 3, (3, 5)).astype(dtype) for kind, dtype in DTYPES.items()}
    return arrays | {"scalar": np.array(2.5, np.float32), "empty": np.zeros((0, 2), np.float32)}


def same(found, arrays):
    assert found.keys() == arrays.keys()
    for name, x in arrays.items():
        assert found[name].dtype == x.dtype
        np.testing.assert_array_equal(found[name], x)


def test_what_the_library_writes_is_mapped_into_memory(arrays, tmp_path):
    save_file(arrays, tmp_path / "x", metadata={"format": "pt"})
    found = read_safetensors(tmp_path / "x")
    same(found, arrays)
    assert all(isinstance(x, np.memmap) for x in found.values() if x.size)


def test_what_is_written_is_read_by_the_library(arrays, tmp_path):
    arrays["turned"] = arrays["x.F32"].T  # not contiguous, which the library would write wrong
    write_safetensors(tmp_path / "x", arrays, {"format": "pt"})
    same(load_file(tmp_path / "x"), arrays)


def test_what_cannot_be_written_leaves_the_old_file(arrays, tmp_path):
    write_safetensors(tmp_path / "x", arrays, {})
    whole = (tmp_path / "x").read_bytes()
    with pytest.raises(KeyError):
        write_safetensors(tmp_path / "x", arrays | {"e": np.ones(2, np.complex64)}, {})
    assert (tmp_path / "x").read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def entry(start: int, stop: int, shape: list, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"a": entry(0, 8, [2])}, b"1234"),  # cut off
        ({"a": entry(0, 4, [1])}, b"12345678"),  # more than it should be
        ({"a": entry(4, 8, [1])}, b"12345678"),  # a gap
        ({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, b"123456789012"),  # an overlap
        ({"a": entry(0, 8, [2]), "b": entry(0, 8, [2])}, b"12345678"),  # the same bytes twice
        ({"a": entry(0, 8, [3])}, b"12345678"),  # another shape
        ({"a": entry(8, 0, [2])}, b"12345678"),
        ({"a": entry(0, 8, [-1, -2])}, b"12345678"),
        ({"a": entry(0, 0, [2**62, 2**62, 0])}, b""),
        ({"a": entry(0, 0, [0, 2**62, 2**62])}, b""),
        ({"a": entry(0, 4, [1] * 65)}, b"1234"),  # more axes than numpy has
        ({"a": {"dtype": "F32"}}, b""),
        ({"a\nb": entry(4, 8, [1])}, b"12345678"),
        ([1, 2], b""),
        ({}, b""),
        ({"__metadata__": {"format": "pt"}}, b""),
        ({"__metadata__": 5, "a": entry(0, 4, [1])}, b"1234"),
        ({"a": "[" * 200_000}, b""),
    ],
)
def test_a_file_that_is_not_whole_is_refused(header, data, tmp_path):
    text = json.dumps(header).encode()
    (tmp_path / "x").write_bytes(len(text).to_bytes(8, "little") + text + data)
    with pytest.raises(UserError, match=rf"^{tmp_path / 'x'}: .*download it again$") as error:
        read_safetensors(tmp_path / "x")
    assert "\n" not in str(error.value) and len(str(error.value)) < len(str(tmp_path)) + 300


@pytest.mark.parametrize(
    "whole",
    [
        b"",
        b"1234",
        (100).to_bytes(8, "little") + b"{}",
        (2**64 - 1).to_bytes(8, "little"),
        (10).to_bytes(8, "little") + b'{"\xff": 1} ',
    ],
)
def test_a_file_without_a_header_is_refused(whole, tmp_path):
    (tmp_path / "x").write_bytes(whole)
    with pytest.raises(UserError, match="not a whole safetensors file"):
        read_safetensors(tmp_path / "x")


def test_a_type_that_is_not_read_is_no_damage(tmp_path):
    """A sound file must not be called damaged: downloading it again would not help."""
    save_file({"a": np.ones(4, ml_dtypes.float8_e4m3fn)}, tmp_path / "x")
    with pytest.raises(UserError, match=r"'a' has type F8_E4M3; jepa-speech reads F64, .*: save") as error:
        read_safetensors(tmp_path / "x")
    assert "download" not in str(error.value)


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    """As `git clone` leaves where Git LFS is not installed."""
    path = tmp_path / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n")
    with pytest.raises(UserError, match=rf"^{path}: a pointer of Git LFS, not the file itself: run `git lfs pull`"):
        read_safetensors(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.safetensors: cannot be read \(No such file"):
        read_safetensors(tmp_path / "none.safetensors")
