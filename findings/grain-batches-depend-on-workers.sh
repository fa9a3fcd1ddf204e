#!/usr/bin/env bash
# grain 0.2.18: batch() and filter() ahead of mp_prefetch(), with different numbers of worker processes.
#
# One would guess that the number of workers changes only the speed, since grain is made for runs that can be repeated,
# and random_map() does draw the same numbers with any number of workers.
#
# Seen:
# - IterDataset.batch() runs inside each worker, on its share of the elements: with two workers, the first batch of
#   range(15) holds 0, 2, 4, ... Each worker has its own last batch. With drop_remainder=True, batches of 5 are three
#   with none or one worker, two with two, and none at all with four: the dataset is empty, with no error.
# - filter() changes the order: the main process takes one kept element from each worker in turn.
# - MapDataset.batch() ahead of to_iter_dataset() gives the same batches with any number of workers.
#
# What to do: shuffle and batch a MapDataset, and call to_iter_dataset() after it. In jepa_speech/batches/pipeline.py, each
# element is a whole batch from the start.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check grain==0.2.18 numpy==2.4.6

cat >"$work/workers.py" <<'PY'
import importlib.metadata

import grain
from absl import flags

assert importlib.metadata.version("grain") == "0.2.18"


def elements(dataset, workers):
    if workers:
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    return [x.tolist() if hasattr(x, "tolist") else x for x in dataset]


def main():
    numbers = grain.MapDataset.range(15)
    counts, orders, safe = {}, {}, {}
    for workers in (0, 1, 2, 4):
        batches = elements(numbers.to_iter_dataset().batch(5, drop_remainder=True), workers)
        counts[workers] = len(batches)
        orders[workers] = elements(numbers.filter(lambda x: x % 4 != 1).to_iter_dataset(), workers)
        safe[workers] = elements(numbers.batch(5, drop_remainder=True).to_iter_dataset(), workers)
        print(f"{workers} workers: {batches}; filtered {orders[workers]}")
        if workers == 2:
            assert batches == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
    assert counts == {0: 3, 1: 3, 2: 2, 4: 0}
    assert orders[0] == orders[1] != orders[2] and sorted(orders[2]) == orders[0]
    assert all(batches == safe[0] for batches in safe.values())
    print("seen: batches and order depend on the number of workers, and four workers give no batch at all")


if __name__ == "__main__":
    flags.FLAGS.mark_as_parsed()
    main()
PY
cd "$work"
"$work/venv/bin/python" workers.py
