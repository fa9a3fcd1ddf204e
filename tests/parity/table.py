"""`make parity`: every oracle, at toy sizes and at those of the papers, as a table; exit code 1 if one is too far off.

Run as `python -m parity.table [FILE]`, with tests/ on the path; FILE receives the table, too.
"""

import gc
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import jax
import numpy as np
from parity import anchors, blocks, codebooks, grids, losses, random_projection, regulariser, sequences
from parity.oracles import Difference, compare
from parity.sizes import PRE_NORM, PUBLISHED_ENCODERS, TINY, TINY_CODES, TINY_ENCODERS

Oracle = Callable[[], list[Difference]]

# Beside the encoders' hidden states. Each takes seconds; tests run them, too.
TINY_ORACLES: list[Oracle] = [
    partial(losses.wav2vec2_loss, TINY | TINY_CODES, [0.7, 0.7], "wav2vec 2.0 loss, tiny Base"),
    partial(losses.wav2vec2_loss, TINY | TINY_CODES | PRE_NORM, [0.9, 0.6], "wav2vec 2.0 loss, tiny Large"),
    partial(losses.gumbel_quantizer, TINY | TINY_CODES, (2, 30), "Gumbel quantiser, tiny"),
    partial(blocks.conformer, 32, 4, 64, 5, 40, "conformer block, tiny"),
    blocks.rotary,
    blocks.sinc_filters,
    blocks.recurrence,
    grids.frame_counts,
    grids.bucket_table,
    partial(grids.mask_distribution, 0.65, "mask of wav2vec 2.0"),
    partial(grids.mask_distribution, 0.80, "mask of HuBERT"),
    partial(anchors.posteriors, 64, 39),
    anchors.em_step,
    anchors.lloyd_steps,
    anchors.features,
    codebooks.dinosr,
    regulariser.sigreg,
    sequences.ctc,
    sequences.lstm,
]
PUBLISHED_ORACLES: list[Oracle] = [
    *(partial(compare, *case) for case in PUBLISHED_ENCODERS),
    partial(losses.wav2vec2_loss, {}, [2.0, 2.0], "wav2vec 2.0 loss, Base"),
    partial(losses.gumbel_quantizer, {}, (2, 100), "Gumbel quantiser of wav2vec 2.0"),
    partial(blocks.conformer, 1024, 8, 4096, 5, 50, "conformer block of w2v-BERT XL"),
    partial(anchors.posteriors, 1024, 80),
    partial(random_projection.codes, 320, 1, 8192, 16, 500, "BEST-RQ's quantiser"),
    partial(random_projection.codes, 320, 16, 8192, 16, 50, "BEST-RQ's quantiser, 16 books"),
]
NOT_RUN = [("DinoSR, PyPI's `spidr`", "loss and codebooks over 3 steps", "not run: needs Python 3.12", "")]


def merged(rows: list[Difference]) -> Iterator[Difference]:
    """Quantities that are numbered, `hidden state 0` and so on, as one row with the largest error."""
    kinds: dict[tuple[str, str], list[Difference]] = {}
    for row in rows:
        kinds.setdefault((row.system, re.sub(r" \d+$", "", row.what)), []).append(row)
    for (system, kind), same in kinds.items():
        first, last = same[0].what, same[-1].what.removeprefix(kind)
        what = first if len(same) == 1 else f"{kind}s{first.removeprefix(kind)} to{last}"
        yield Difference(system, what, np.max([row.error for row in same]), same[0].tolerance)


def passes(row: Difference) -> bool:
    return bool(row.error <= row.tolerance)  # not so for NaN


def cells(row: Difference) -> tuple[str, str, str, str]:
    error = f"{row.error:.1e}" if row.tolerance and row.error else f"{row.error:g}"
    tolerance = f"{row.tolerance:.2g}" if row.tolerance else "exact"
    return row.system, row.what, error if passes(row) else f"**{error}**", tolerance


def line(columns: tuple[str, ...]) -> str:
    return f"| {' | '.join(columns)} |"


def main(arguments: list[str]) -> int:
    warnings.filterwarnings(
        "ignore", "Support for mismatched key_padding_mask", UserWarning
    )  # torch's, of WavLM's code
    lines, failed = [line(("system", "compared", "largest error", "tolerance")), "|---|---|---|---|"], 0
    print(*lines, sep="\n", flush=True)
    for oracle in [*(partial(compare, *case) for case in TINY_ENCODERS), *TINY_ORACLES, *PUBLISHED_ORACLES]:
        for row in merged(oracle()):
            lines.append(line(cells(row)))
            print(lines[-1], flush=True)
            failed += not passes(row)
        jax.clear_caches()  # a compiled Large holds as much as its weights
        gc.collect()
    lines += map(line, NOT_RUN)
    print(*map(line, NOT_RUN), f"{failed} above tolerance", sep="\n")
    for path in arguments:
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
