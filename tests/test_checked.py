"""checked.py: every kind of wrong value is one line that names it."""

import math

import numpy as np
import pytest

from jepa_speech import checked
from jepa_speech.errors import UserError

GOOD = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (GOOD[0], "shape"),
        (GOOD.T, "shape"),
        (GOOD.astype(int), "type"),
        (np.array([["a", "b", "c"]] * 2), "type"),
        (np.where(GOOD > 0, np.nan, GOOD), "NaN or infinite"),
        (-GOOD, "less than 0"),
        (0 * GOOD, "not above 0"),
    ],
)
def test_a_wrong_array_is_named(value, message):
    with pytest.raises(UserError, match=f"^a.npz: means .*{message}"):
        checked.array(value, "a.npz: means", shape=(2, 3), least=0, above=0)


def test_a_right_array_is_itself():
    assert checked.array(GOOD, "a.npz: means", shape=(None, 3), least=0, above=0) is GOOD
    assert checked.array(np.arange(3), "ids", shape=(3,), kind="iu", least=0).tolist() == [0, 1, 2]


@pytest.mark.parametrize("row", [None, [1], {}, {"n": None}, {"n": "1"}, {"n": True}, {"n": math.nan}, {"n": 1.5j}])
def test_a_wrong_field_is_named(row):
    with pytest.raises(UserError, match=r"^a\.jsonl:3: "):
        checked.field(row, "n", (int, float), "a.jsonl:3")


@pytest.mark.parametrize(
    ("n", "message"),
    [
        (-1, "n = -1: expected at least 0"),
        (9, "n = 9: expected at most 8"),
        (10**400, "64 bits"),
        (math.inf, "n = inf: expected a finite number"),
        ("b" * 1000, r"b\.\.\.: expected int or float"),
        (None, "n = None: expected int or float"),
        (3, "n = 3: expected one of 2, 4"),
    ],
)
def test_a_field_out_of_its_range_is_named(n, message):
    with pytest.raises(UserError, match=message) as error:
        checked.field({"n": n}, "n", (int, float), "a.json", default=1, least=0, most=8, choices=(2, 4))
    assert len(str(error.value)) < 200


def test_a_right_field_is_itself():
    assert checked.field({}, "n", int, "x", default=5) == 5
    assert checked.field({"n": 2, "b": False}, "n", int, "x") == 2
    assert checked.field({"b": False}, "b", bool, "x") is False
