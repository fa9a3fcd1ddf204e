"""Fetches the shards of a plan's next batches from a bucket while earlier batches are used."""

import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from jepa_speech.batches.batch_plan import Plan, PlanItem
from jepa_speech.batches.pipeline import Batch, Batches
from jepa_speech.batches.weighted_stores import Stores
from jepa_speech.cloud.cache import BOUND, Shard, cache
from jepa_speech.errors import UserError
from jepa_speech.store.store import Store

NAME = "fetch ahead"  # of the threads
FETCHERS = 4  # shards that are fetched at a time
LEAST_RATE = 1.0  # batches a second that are assumed at least, so before the first rate is known


class FetchAhead:
    """Threads that fetch the shards of items start ... stop-1 of a plan, `seconds` before they are used.

    shards: returns the shards that this process reads for an item. A shard is not fetched while only shards that are
    used sooner could make room for it.
    """

    def __init__(self, shards: Callable[[int], list[Shard]], start: int, stop: int, seconds: float) -> None:
        self._shards, self._start, self._stop, self._seconds = shards, start, stop, seconds
        self._taken = self._planned = start  # the next batch to be taken, and the next item to be planned
        self._began = 0.0
        self._uses: defaultdict[Path, deque[int]] = defaultdict(deque)  # the planned items that use a shard
        self._queue: deque[tuple[int, Shard]] = deque()
        # Of planned items: how many of their shards are not in the cache yet, and when the last one came.
        self._missing: dict[int, int] = {}
        self._complete: dict[int, float] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._cache = cache()
        self._cache.expected[self] = self._soon
        work = [self._plan, *[self._fetch] * FETCHERS]
        self._threads = [threading.Thread(target=target, name=NAME, daemon=True) for target in work]
        for thread in self._threads:
            thread.start()

    def advance(self, asked: float) -> float:
        """Notes that the next batch was taken, which was asked for at `asked` (of time.monotonic).

        Returns for how many of the seconds since then a shard of the batch was not in the cache.
        """
        with self._changed:
            now = time.monotonic()
            complete = self._complete.pop(self._taken, asked)
            if self._missing.pop(self._taken, 0):
                complete = now
            self._began = self._began or now
            self._taken += 1
            for path, uses in list(self._uses.items()):
                while uses and uses[0] < self._taken:
                    uses.popleft()
                if not uses:
                    del self._uses[path]
            self._changed.notify_all()
        return max(0.0, complete - asked)

    def close(self) -> None:
        """Ends the threads; a shard that is being fetched is given up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._cache.expected.pop(self, None)

    def _soon(self, path: Path) -> float:
        """Returns in how many batches a shard is used, infinity if in none that is planned."""
        with self._changed:
            uses = self._uses.get(path)
            return max(0, uses[0] - self._taken) if uses else math.inf

    def _last(self) -> int:
        """Returns the item up to which shards are fetched now."""
        spent = time.monotonic() - self._began
        rate = (self._taken - self._start) / spent if self._began and spent else 0.0
        return min(self._stop, self._taken + math.ceil(self._seconds * max(LEAST_RATE, rate)))

    def _plan(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._planned < self._last())
                if self._closed:
                    return
            found = self._shards(self._planned)
            with self._changed:
                if self._planned >= self._taken:
                    self._missing[self._planned] = len(found)
                for shard in found:
                    self._uses[shard.path].append(self._planned)
                    self._queue.append((self._planned, shard))
                self._planned += 1
                self._changed.notify_all()

    def _moved_on(self, taken: int) -> bool:
        return self._closed or self._taken > taken

    def _fetch(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._queue)
                if self._closed:
                    return
                item, shard = self._queue.popleft()
                taken = self._taken
                if item < taken:  # the reader fetched it, because others that are used sooner filled the cache
                    continue
            try:
                fetched = self._cache.fetch(shard, max(0, item - taken), lambda: not self._closed)
            except UserError:  # the batch that needs the shard asks for it again, and raises this error
                continue
            with self._changed:
                if fetched and item in self._missing:
                    self._missing[item] -= 1
                    self._complete[item] = time.monotonic()
                if not fetched:
                    self._queue.appendleft((item, shard))
                    self._changed.wait_for(partial(self._moved_on, taken))


class SharedPlan(Sequence[PlanItem]):
    """A plan for two threads that take each item once: the one that comes second gets what the first has computed.

    Memory: the items between the two.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan, self._waiting, self._lock = plan, dict[int, PlanItem](), threading.Lock()

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, i: int) -> PlanItem:  # type: ignore[override]  # no slices
        with self._lock:
            if (item := self._waiting.pop(i, None)) is None:
                item = self._waiting[i] = self._plan[i]
            return item


def too_small(stores: Store | Stores) -> str:
    """Returns a line that says that the cache cannot hold the shards of stores in buckets; "" if it can."""
    parts = [stores] if isinstance(stores, Store) else [part for part, _ in stores.parts]
    size, bound = sum(sum(part.info["shard_bytes"]) for part in parts if part.remote), cache().bound
    if size <= bound:
        return ""
    return (
        f"the cache holds {bound / 1e9:.3g} of the {size / 1e9:.3g} GB of {stores!r}, so shards are fetched again and "
        f"again: raise the environment variable {BOUND}"
    )


class FetchedAhead(Iterator[Batch]):
    """The batches of `stream`, the items start ... stop-1 of a plan. The arguments are those of FetchAhead.

    Attribute `fetch_wait`: how many seconds of the wait for the last batch passed until its shards were in the cache.
    """

    def __init__(
        self, stream: Batches, shards: Callable[[int], list[Shard]], start: int, stop: int, seconds: float
    ) -> None:
        self._stream, self._ahead = stream, FetchAhead(shards, start, stop, seconds)
        self.fetch_wait = 0.0

    def __next__(self) -> Batch:
        asked = time.monotonic()
        batch = next(self._stream)
        self.fetch_wait = self._ahead.advance(asked)
        return batch

    def close(self) -> None:
        """Ends all threads and processes."""
        self._ahead.close()
        self._stream.close()
