"""Our reader and writer against the format's own library."""

import numpy as np
import pytest

numpy = pytest.importorskip("safetensors.numpy")

from jepa_speech.huggingface.safetensors import read_safetensors, write_safetensors  # noqa: E402


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    kinds = (np.float32, np.float16, np.float64, np.int64, np.int32, np.uint8, np.bool_)
    arrays = {f"x.{kind.__name__}": rng.normal(0, 3, (3, 5)).astype(kind) for kind in kinds}
    return arrays | {"scalar": np.array(2.5, np.float32), "empty": np.zeros((0, 2), np.float32)}


def test_what_the_library_writes_is_read(arrays, tmp_path):
    numpy.save_file(arrays, tmp_path / "x.safetensors", metadata={"format": "pt"})
    found = read_safetensors(tmp_path / "x.safetensors")
    assert found.keys() == arrays.keys()
    for name, x in arrays.items():
        assert found[name].dtype == x.dtype
        np.testing.assert_array_equal(found[name], x)


def test_what_is_written_is_read_by_the_library(arrays, tmp_path):
    write_safetensors(tmp_path / "ours.safetensors", arrays, {"format": "pt"})
    found = numpy.load_file(tmp_path / "ours.safetensors")
    assert found.keys() == arrays.keys()
    for name, x in arrays.items():
        assert found[name].dtype == x.dtype
        np.testing.assert_array_equal(found[name], x)
