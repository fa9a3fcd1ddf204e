"""Which buckets suit a corpus: the crop lengths that pad it least."""

import numpy as np

from jepa_speech.batches.batch_plan import FRAMES_PER_SECOND, Plan
from jepa_speech.errors import UsageError
from jepa_speech.features.grid import HOP

ENDS = np.linspace(0.01, 0.99, 99)  # quantiles of the durations at which a bucket may end; what is longer is cropped
WASTE = 0.1  # the share of padding that is no matter
ENOUGH = 1_000_000  # recordings to judge by


def suggest_buckets(samples: np.ndarray, buckets: int) -> tuple[float, ...]:
    """The lengths in seconds, ascending, of the `buckets` buckets that pad recordings of `samples` (N,) least.

    They end at quantiles of the durations, chosen by dynamic programming; the last holds 99% of the recordings. There
    are fewer where durations repeat. Raises UsageError without recordings or buckets.
    """
    if len(samples) == 0 or buckets < 1:
        raise UsageError(f"{buckets} buckets for {len(samples)} recordings: at least one of each needed")
    samples = samples[:: -(-len(samples) // ENOUGH)]
    quantiles = np.quantile(samples, ENDS, method="higher").astype(int)
    ends = np.unique(-(-quantiles // HOP)).tolist()  # in frames
    held = [int(np.count_nonzero(samples <= HOP * end)) for end in ends]
    # (padded frames, ends) of the best buckets for all that is no longer than ends[j], with one more in each round.
    best = [(end * count, (end,)) for end, count in zip(ends, held, strict=True)]
    for _ in range(buckets - 1):
        best = [
            min([best[j], *((best[i][0] + ends[j] * (held[j] - held[i]), (*best[i][1], ends[j])) for i in range(j))])
            for j in range(len(ends))
        ]
    return tuple(end / FRAMES_PER_SECOND for end in best[-1][1])


def better_buckets(plan: Plan, most: int) -> tuple[tuple[float, ...], float] | None:
    """The fewest buckets, up to `most`, with which this plan would pad less than WASTE, else those that pad least; and
    how much. None if it wastes no more as it is."""
    best, waste = None, plan.padding_waste()
    for count in range(1, most + 1):
        if waste <= WASTE:
            break
        buckets = suggest_buckets(plan.used_samples, count)
        if (found := plan.with_buckets(buckets).padding_waste()) < waste:
            best, waste = (buckets, found), found
    return best
