"""CTC and LSTMs against torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from parity.oracles import Difference

from jepa_speech.nn.ctc import ctc_loss
from jepa_speech.nn.lstm import Lstm
from jepa_speech.nn.module import Pure
from jepa_speech.nn.row_random import valid


def ctc() -> list[Difference]:
    """Nats of each row, an impossible one among them, and the gradient of their sum."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(4, 40, 12)).astype(np.float32)
    frames, lengths = np.array([40, 33, 25, 9]), np.array([15, 1, 0, 9])
    ids = random.integers(1, 12, (4, 15)) * (np.arange(15) < lengths[:, None])
    ids[3, :9] = 5  # repeats, for which nine frames are too few

    def total(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        nats, feasible = ctc_loss(x, frames, ids, lengths)
        return nats.sum(), (nats, feasible)

    gradient, (nats, feasible) = jax.jit(jax.grad(total, has_aux=True))(jnp.asarray(logits))
    theirs = torch.tensor(logits, requires_grad=True)
    expected = torch.nn.functional.ctc_loss(
        theirs.log_softmax(-1).transpose(0, 1),
        torch.tensor(ids),
        torch.tensor(frames),
        torch.tensor(lengths),
        reduction="none",
        zero_infinity=True,
    )
    expected.sum().backward()
    return [
        Difference("CTC", "nats", np.abs(nats - expected.detach().numpy()).max(), 1e-4),
        Difference("CTC", "rows without a path", float(np.abs(np.asarray(feasible) - [1, 1, 1, 0]).sum()), 0),
        Difference("CTC", "gradient", np.abs(gradient - theirs.grad.numpy()).max(), 5e-5),
    ]


def lstm() -> list[Difference]:
    """Both directions of one layer on rows of different lengths, packed there."""
    theirs = torch.nn.LSTM(6, 5, batch_first=True, bidirectional=True)
    lengths, x = np.array([9, 6, 2]), np.random.default_rng(1).normal(size=(3, 9, 6)).astype(np.float32)
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.tensor(x), torch.tensor(lengths), batch_first=True)
    with torch.no_grad():
        expected, _ = torch.nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)
    outputs = []
    for reverse, end in ((False, "l0"), (True, "l0_reverse")):
        layer = Pure(lambda rngs, reverse=reverse: Lstm(6, 5, reverse, rngs))
        weights = {name: getattr(theirs, f"{name}_{end}").detach().numpy() for name in ("weight_ih", "weight_hh")}
        bias = sum(getattr(theirs, f"{name}_{end}").detach().numpy() for name in ("bias_ih", "bias_hh"))
        params = {"input": {"kernel": weights["weight_ih"].T, "bias": bias}, "recurrent": weights["weight_hh"].T}
        outputs.append(jax.jit(layer.apply)(params, x, valid(lengths, 9)))
    error = np.abs(np.concatenate(outputs, -1) - expected.numpy()).max()
    return [Difference("LSTM", "states of both directions", error, 1e-5)]
