"""Two pieces of a probe's work at a time, with the results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import jax

AT_ONCE = 2  # a head in training, or an encoder on one recording, keeps about one core busy

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(function: Callable[[Item], Result], items: Iterable[Item], at_once: int = AT_ONCE) -> Iterator[Result]:
    """Yields function(item) of each item, computed in threads, at most `at_once` items ahead.

    The first item is done alone, so that what the others share is compiled once. On an accelerator, which one item
    fills, all are done one after the other.
    """
    remaining = iter(items)
    for item in remaining:
        yield function(item)
        if at_once > 1 and jax.default_backend() == "cpu":
            break
    with ThreadPoolExecutor(at_once) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in remaining:
            waiting.append(pool.submit(function, item))
            if len(waiting) > at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
