"""BEST-RQ's quantiser against PyPI's `vector-quantize-pytorch`, on the same projections and codes."""

import jax
import numpy as np
import torch
from parity.oracles import Difference

from jepa_speech.nn.random_projection import code_ids, random_projection


def codes(inputs: int, books: int, codes: int, width: int, frames: int, label: str) -> list[Difference]:
    """The share of the codes that differ, over random frames. Their layer norm is off: our input has its own."""
    from vector_quantize_pytorch import RandomProjectionQuantizer  # here, so that other oracles run without it

    arrays = random_projection(jax.random.PRNGKey(0), inputs, books, codes, width)
    ours = {name: torch.tensor(np.asarray(x)) for name, x in arrays.items()}
    theirs = RandomProjectionQuantizer(
        dim=inputs, codebook_size=codes, codebook_dim=width, num_codebooks=books, norm=False
    )
    with torch.no_grad():
        theirs.rand_projs.copy_(ours["projections"])
        # Several books are widened by a linear map there, one after the other; zeros beside a book change no code.
        theirs.vq._codebook.embed.zero_()[..., :width] = torch.nn.functional.normalize(ours["codes"], dim=-1)
        if books > 1:
            wide = torch.zeros(books, books * width, books, width)
            for book in range(books):
                wide[book, :width, book] = torch.eye(width)
            theirs.vq.project_in.weight.copy_(wide.reshape(books * books * width, books * width))
            theirs.vq.project_in.bias.zero_()
    x = np.random.default_rng(0).normal(size=(2, frames, inputs)).astype(np.float32)
    found = theirs(torch.tensor(x)).reshape(2, frames, books).numpy()
    return [Difference(label, "codes that differ, share", float((np.asarray(code_ids(arrays, x)) != found).mean()), 0)]
