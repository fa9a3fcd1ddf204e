"""The Gaussian mixture: an iteration of EM and posteriors, beside scikit-learn and the broadcast form in torch."""

from collections.abc import Callable
from pathlib import Path

import anchors
import numpy as np
import torch
from rows.race import Row, alternate
from threadpoolctl import threadpool_limits

PEERS = ("scikit-learn", "torch")
CHUNK = 500  # frames at once in the broadcast form: (500, 1024, 80) float32 is 164 MB


def broadcast(z: np.ndarray, means: np.ndarray) -> Callable[[], torch.Tensor]:
    """Posteriors of unit variances and even weights as the formula is written, over (N, K, D): (N, K)."""
    x, centres = torch.from_numpy(z), torch.from_numpy(means.astype(np.float32))
    variances, log_weight = torch.ones_like(centres), -np.log(len(means))

    def run() -> torch.Tensor:
        parts = []
        for part in x.split(CHUNK):
            distance = (part[:, None] - centres).square() / variances + torch.log(2 * torch.pi * variances)  # (N, K, D)
            parts.append(torch.softmax(log_weight - 0.5 * distance.sum(-1), -1))
        return torch.cat(parts)

    return run


def rows(quick: bool, work: Path, data: Path | None) -> list[Row]:
    size = anchors.Size(64, 8, 2_000, 1_000) if quick else anchors.Size(frames=50_000)
    few = size.posteriors // 10  # the broadcast form takes minutes for all
    turns = 2 if quick else 5
    z, means = anchors.data(size)
    mine, theirs = (make(z, means, size.posteriors) for make in (anchors.ours, anchors.theirs))
    mine_few, formula = anchors.ours(z, means, few)["posteriors"], broadcast(z[:few], means)
    expected = theirs["posteriors"]()
    for name, found in {"ours": mine["posteriors"](), "broadcast": [formula().numpy()]}.items():
        found = np.concatenate(found)[: size.posteriors]
        error = np.abs(found[:few] - expected[:few]).max()
        assert error < 1e-3, f"{name}: posteriors differ from scikit-learn's by {error:.1e}"
    table, shape = [], f"K = {size.components}, D = {size.dim}"
    with threadpool_limits(torch.get_num_threads()):
        for what, goal in anchors.GOALS.items():
            # More turns than elsewhere: scikit-learn's time sways by half.
            times = alternate({"ours": mine[what], "theirs": theirs[what]}, turns if quick else 9)
            frames = size.frames if what == "one EM iteration" else size.posteriors
            table.append(Row(f"{what}, {shape}, {frames:,} frames", "scikit-learn", *times.values(), goal=goal))
        times = alternate({"ours": mine_few, "theirs": formula}, turns)
        peer = f"torch, broadcast over (N, K, D) in chunks of {CHUNK}"
        table.append(Row(f"posteriors, {shape}, {few:,} frames", peer, *times.values()))
    return table
