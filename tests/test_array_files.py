import re

import numpy as np
import pytest
from support.damage import KINDS, damage

from jepa_speech.array_files import read_npy, read_npz, write_npy
from jepa_speech.errors import UserError

ARRAYS = [
    np.arange(12, dtype=np.float32).reshape(3, 4),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.zeros((0, 5), ">f8"),
    np.array(1.5),
    np.array("zwölf"),
    np.array([True, False]),
    np.zeros(70_000, np.uint8),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype.str}{array.shape}")
def test_what_numpy_writes_is_read(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", one=array, two=array[..., :0] if array.ndim else array)
    np.savez_compressed(tmp_path / "b.npz", one=array)
    found = [read_npy(tmp_path / "a.npy", ""), *(read_npz(tmp_path / f"{name}.npz", "")["one"] for name in "ab")]
    for one in found:
        assert (one.dtype, one.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(one, array)
    assert read_npz(tmp_path / "a.npz", "").keys() == {"one", "two"}


def test_numpy_reads_what_is_written(tmp_path):
    write_npy(tmp_path / "a.npy", ARRAYS[0])
    for one in (np.load(tmp_path / "a.npy"), np.load(tmp_path / "a.npy", mmap_mode="r")):
        np.testing.assert_array_equal(one, ARRAYS[0])


def test_no_random_damage_passes_for_a_written_array(tmp_path):
    random, path = np.random.default_rng(0), tmp_path / "a.npy"
    array = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    for attempt in range(200):
        write_npy(path, array)
        if attempt == 0:  # as numpy.save writes it: without the checksum
            path.write_bytes(path.read_bytes()[:-15])
            np.testing.assert_array_equal(read_npy(path, "make it again"), array)
            continue
        done = damage(path, random, ["flip"] if attempt % 2 else list(KINDS))
        if done.kind == "delete":
            with pytest.raises(FileNotFoundError):
                read_npy(path, "make it again")
            continue
        with pytest.raises(UserError, match=f"^{re.escape(str(path))}: .*; make it again$"):
            print(done, read_npy(path, "make it again"))


def test_objects_and_strange_headers_are_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([1, "x"], object))
    with pytest.raises(UserError, match="numbers and text"):
        read_npy(path, "")
    np.savez(tmp_path / "a.npz", a=np.array([1, "x"], object))
    with pytest.raises(UserError, match="numbers and text"):
        read_npz(tmp_path / "a.npz", "")
    np.save(path, np.zeros(8, np.int64))
    whole = path.read_bytes()
    for old, new in ((b"'<i8'", b"'<a8'"), (b"(8,)", b"(9,)"), (b"(8,)", b"(-8)"), (b"(8,)", b"((8)"), (b"i8", b"i3")):
        path.write_bytes(whole.replace(old, new, 1))
        with pytest.raises(UserError, match="damaged"):
            read_npy(path, "")
