"""What must be the same to the last integer, and what must have the same distribution: grids, buckets, masks."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
import torch
import transformers
from nn.test_masks import runs
from parity.oracles import Difference, their_model
from parity.sizes import TINY
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices

from jepa_speech.features.grid import frames
from jepa_speech.nn.masks import MaskConfig, span_masks
from jepa_speech.nn.relative_bias import buckets

LENGTHS = (400, 16_000, 240_000, 250_000)


def frame_counts() -> list[Difference]:
    with torch.device("meta"):
        model = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**TINY))
    lengths = [*LENGTHS, *range(400, 2_000)]
    wrong = sum(int(model._get_feat_extract_output_lengths(n)) != frames(n) for n in lengths)
    return [Difference("frame grid", f"frames of {', '.join(map(str, LENGTHS))} samples, and of 400 to 1999", wrong, 0)]


def bucket_table() -> list[Difference]:
    attention = their_model("wavlm", TINY).encoder.layers[0].attention
    offsets = np.arange(-1_500, 1_501)
    wrong = buckets(offsets, 320, 800) != attention._relative_positions_bucket(torch.tensor(offsets)).numpy()
    return [Difference("WavLM", "bucket table, offsets up to 1500", wrong.sum(), 0)]


def mask_distribution(probability: float, label: str, draws: int = 2_000, size: int = 749) -> list[Difference]:
    """Returns coverage and lengths of masked spans, over independent rows of 15 s.

    Tolerances: four standard errors for the mean; for cumulative distributions, what two samples of the same one
    exceed once in 10,000 times (Kolmogorov and Smirnov). By design ours differ in this: the last frame always stays
    visible, and no span starts so late that it would end there. That is 0.0002 of coverage, well below either.
    """
    np.random.seed(0)  # noqa: NPY002  (transformers' function draws from it)
    theirs = np.concatenate([_compute_mask_indices((1, size), probability, 10, min_masks=2) for _ in range(draws)])
    config = MaskConfig(policy="spans", probability=probability, span=(10, 10))
    keys = jax.random.split(jax.random.PRNGKey(0), draws)
    ours = np.asarray(jax.jit(lambda keys: span_masks(keys, jnp.full(draws, size), size, config))(keys))
    covered = [mask.mean(1) for mask in (ours, theirs)]
    error = 4 * np.sqrt(sum(x.var() for x in covered) / draws)
    lengths = [np.concatenate([runs(row) for row in mask]) for mask in (ours, theirs)]
    return [
        Difference(label, f"mean coverage of {draws} draws", abs(covered[0].mean() - covered[1].mean()), error),
        *(
            Difference(label, f"distribution of {what}", scipy.stats.ks_2samp(*x).statistic, kolmogorov(*x))
            for what, x in (("coverage", covered), ("stretches' lengths", lengths))
        ),
    ]


def kolmogorov(x: np.ndarray, y: np.ndarray) -> float:
    """The distance of two empirical distribution functions that chance exceeds once in 10,000 times."""
    return float(np.sqrt(np.log(2 / 1e-4) / 2 * (1 / len(x) + 1 / len(y))))
