"""benchmarks/damage.py: each damage is what it says, is the same for the same seed, and leaves all else whole."""

import os

import numpy as np
import pytest
from support.damage import KINDS, damage
from support.folder_contents import contents


@pytest.mark.parametrize("kind", KINDS)
def test_one_file_is_damaged_as_told_and_no_other(tmp_path, kind):
    folder = tmp_path / "folder"
    (folder / "within").mkdir(parents=True)
    for name, data in (("a.bin", bytes(100)), ("within/b.bin", bytes(7)), ("empty", b""), ("within/c.lock", b"x")):
        (folder / name).write_bytes(data)
    whole, hit = contents(folder), set()
    for seed in range(20):
        seen = []
        for _ in range(2):
            for name, data in whole.items():
                (folder / name).write_bytes(data)
            os.link(folder / "a.bin", tmp_path / f"{seed}-{len(seen)}")
            done = damage(folder, np.random.default_rng(seed), [kind], spare=["*.lock"])
            seen.append((str(done), contents(folder)))
        assert seen[0] == seen[1] and done.kind == kind and done.path == folder / done.name
        changed = {name for name in whole if seen[0][1].get(name) != whole[name]}
        assert changed == {done.name} and "within/c.lock" not in changed
        left = seen[0][1].get(done.name)
        if kind == "flip":
            assert len(left) == len(whole[done.name]) and sum(byte.bit_count() for byte in left) == 1
        elif kind == "cut":
            assert whole[done.name].startswith(left)
        else:
            assert left is None
        hit.add(done.name)
    assert hit == {"a.bin", "within/b.bin"} | ({"empty"} if kind == "delete" else set())
    assert all(path.read_bytes() == bytes(100) for path in tmp_path.glob("*-*"))  # hard links keep the whole file


def test_nothing_to_damage(tmp_path):
    with pytest.raises(ValueError, match="nothing there"):
        damage(tmp_path, np.random.default_rng(0))
