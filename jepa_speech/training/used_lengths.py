"""Which lengths of recordings a run trains on and is evaluated on: the config's, and what its objective needs."""

from bisect import bisect_left
from typing import TYPE_CHECKING

from jepa_speech.batches.batch_plan import DataConfig, bucket_lengths
from jepa_speech.errors import UsageError
from jepa_speech.ingest.lengths import Lengths

if TYPE_CHECKING:
    from jepa_speech.objective_parts.contract import Objective


def training_lengths(objective: "Objective", data: DataConfig) -> Lengths:
    """Raises UsageError if the objective cannot be trained even on the longest crops."""
    return data.lengths(shortest_clip(objective, int(bucket_lengths(data.buckets)[-1])))


def heldout_lengths(objective: "Objective", data: DataConfig) -> Lengths:
    """As in training, but whatever the encoder takes is evaluated: masks are defined for every length."""
    return data.lengths(objective.min_samples)


def shortest_clip(objective: "Objective", longest: int) -> int:
    """Returns the fewest samples of a clip on which the objective trains, if crops have up to `longest` samples.

    Raises UsageError (of `objective.check`) if `longest` samples are too few.
    """
    objective.check(longest, longest)

    def is_enough(samples: int) -> bool:
        try:
            objective.check(samples, longest)
        except UsageError:
            return False
        return True

    lengths = range(min(objective.min_samples, longest), longest)
    return lengths.start + bisect_left(lengths, True, key=is_enough)
