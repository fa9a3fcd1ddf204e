"""The equal error rate of speaker verification, in closed form."""

import numpy as np


def eer(scores: np.ndarray, same: np.ndarray) -> float:
    """Returns the error rate at the threshold where false acceptance equals false rejection.

    scores (N,): higher for more similar recordings; same (N,) bool. Between two thresholds both rates are interpolated
    linearly, as on the ROC curve. Trials of equal score are accepted together. Raises ValueError unless there are
    trials of both kinds.
    """
    scores, same = np.asarray(scores, np.float64), np.asarray(same, bool)
    if same.all() or not same.any():
        raise ValueError("an equal error rate needs trials of the same speaker and of different ones")
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of each run of equal scores
    accepted = np.append(0, np.cumsum(~same[order])[last]) / (~same).sum()  # false acceptance, rising
    refused = 1 - np.append(0, np.cumsum(same[order])[last]) / same.sum()  # false refusal, falling
    gap = refused - accepted  # from 1 down to -1
    after = int(np.argmax(gap <= 0))
    part = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(accepted[after - 1] + part * (accepted[after] - accepted[after - 1]))
