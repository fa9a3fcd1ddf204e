"""Choice of the buckets that need the least padding for a corpus."""

import numpy as np

from jepa_speech.batches.batch_plan import FRAMES_PER_SECOND, Plan
from jepa_speech.errors import UsageError
from jepa_speech.features.grid import HOP

ENDS = np.linspace(0.01, 0.99, 99)  # quantiles of durations at which a bucket may end; longer recordings are cropped
WASTE = 0.1  # an acceptable share of padding
ENOUGH = 1_000_000  # recordings that are sampled at most


def suggest_buckets(samples: np.ndarray, buckets: int) -> tuple[float, ...]:
    """Returns the lengths in seconds, ascending, of the buckets with the least padding.

    samples (N,): lengths of the recordings. Buckets are quantiles of these, chosen by dynamic programming; 99% of the
    recordings fit the last one. There are fewer than `buckets` if durations repeat. Raises UsageError without
    recordings or buckets.
    """
    if len(samples) == 0 or buckets < 1:
        raise UsageError(f"{buckets} buckets for {len(samples)} recordings: both must be at least 1")
    samples = samples[:: -(-len(samples) // ENOUGH)]
    quantiles = np.quantile(samples, ENDS, method="higher").astype(int)
    ends = np.unique(-(-quantiles // HOP)).tolist()  # in frames
    held = [int(np.count_nonzero(samples <= HOP * end)) for end in ends]
    # (padded frames, ends) of the best buckets for recordings up to ends[j], with one more bucket in each round.
    best = [(end * count, (end,)) for end, count in zip(ends, held, strict=True)]
    for _ in range(buckets - 1):
        best = [
            min([best[j], *((best[i][0] + ends[j] * (held[j] - held[i]), (*best[i][1], ends[j])) for i in range(j))])
            for j in range(len(ends))
        ]
    return tuple(end / FRAMES_PER_SECOND for end in best[-1][1])


def better_buckets(plan: Plan, most: int) -> tuple[tuple[float, ...], float] | None:
    """Returns the fewest buckets, up to `most`, with which this plan has at most WASTE of padding, and that share.

    If there are none, returns the buckets with the least padding; None if the plan's own are as good.
    """
    best, waste = None, plan.padding_waste()
    for count in range(1, most + 1):
        if waste <= WASTE:
            break
        buckets = suggest_buckets(plan.used_samples, count)
        if (found := plan.with_buckets(buckets).padding_waste()) < waste:
            best, waste = (buckets, found), found
    return best
