"""Two pieces of work at a time: the same results, in order, whichever is ready first."""

import threading
import time

import jax
import pytest

from jepa_speech.errors import UserError
from jepa_speech.probing.at_once import in_order


def test_results_are_in_order_and_two_items_run_at_the_same_time():
    meeting = threading.Barrier(2, timeout=30)  # breaks if the second and third item do not run together
    threads = set()

    def work(item):
        threads.add(threading.get_ident())
        if item in (1, 2):
            meeting.wait()
        time.sleep(0.01 * (item % 2))
        return item * item

    assert list(in_order(work, range(9))) == [item * item for item in range(9)]
    assert threading.get_ident() in threads and len(threads) == 3, "the first item alone, in the caller's thread"


def test_it_does_not_run_far_ahead_of_who_uses_the_results():
    begun = []
    results = in_order(lambda item: begun.append(item) or item, range(100))
    for item in results:
        assert len(begun) <= item + 4
    assert begun and len(begun) == 100


@pytest.mark.parametrize("wish", [{"at_once": 1}, {}])
def test_one_after_the_other_where_asked_and_on_an_accelerator(monkeypatch, wish):
    if not wish:
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    threads = set()
    assert list(in_order(lambda item: threads.add(threading.get_ident()) or item, range(4), **wish)) == [0, 1, 2, 3]
    assert threads == {threading.get_ident()}


def test_the_first_error_in_order_is_raised():
    def work(item):
        if item > 2:
            raise UserError(f"item {item}")
        return item

    found = in_order(work, range(6))
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(UserError, match="item 3"):
        next(found)
