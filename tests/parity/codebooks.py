"""DinoSR's online codebooks against plain numpy."""

import jax
import numpy as np
from objectives.test_equations import run
from parity.oracles import Difference


def codebook_step(x: np.ndarray, sums: np.ndarray, counts: np.ndarray, decay: float) -> np.ndarray:
    """One step of one codebook, in place (arXiv 2305.10005, eq. 3 and 4).

    x (N, D): the frames; sums (V, D), counts (V,) -> the code of each frame (N,), read before the codewords move.
    """
    codes = ((x[:, None] - sums / counts[:, None]) ** 2).sum(-1).argmin(-1)
    for v in np.unique(codes):
        counts[v] = decay * counts[v] + (1 - decay) * (codes == v).sum()
        sums[v] = decay * sums[v] + (1 - decay) * x[codes == v].sum(0)
    return codes


def dinosr(steps: int = 3) -> list[Difference]:
    """Two codebooks of a toy over a few updates, relative to the largest entry: float32 sums over some 100 frames."""
    o, _, params, aux_state, everything = run("dinosr")
    sums, counts = np.asarray(aux_state["code_sums"], np.float64), np.asarray(aux_state["code_counts"], np.float64)
    update, targets = jax.jit(o.update_aux_state), jax.jit(o.block_targets)
    for step in range(steps):
        _, stats, view, _ = everything(params, aux_state, step)
        hidden = np.asarray(view.masked) > 0
        for k, layer in enumerate(targets(params, aux_state, view)):
            codebook_step(np.asarray(layer)[hidden], sums[k], counts[k], o.config.code_decay)
        aux_state = update(aux_state, params, stats, step)
    return [
        Difference(f"DinoSR, {steps} codebook steps", f"{what}, relative", np.abs(a - b).max() / np.abs(b).max(), 1e-4)
        for what, a, b in (("sums", aux_state["code_sums"], sums), ("counts", aux_state["code_counts"], counts))
    ]
