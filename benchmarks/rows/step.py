"""The train step of the small configs, beside the same architecture in torch with as many threads."""

from functools import partial
from pathlib import Path

import jax
import numpy as np
import torch
from rows import made
from rows.race import Row, alternate
from rows.torch_smoke import Peer

PEERS = ("torch", "transformers")
OBJECTIVES = ("gmm_jepa", "hubert")


def pair(objective: str, quick: bool) -> tuple[made.Stepper, Peer]:
    """Ours and theirs with the same weights, batch and masks: same output, loss and gradient, or AssertionError."""
    count, seconds = (2, 0.5) if quick else (4, 4.0)
    config = made.config_of(
        f"{'tiny' if quick else 'smoke'}.py:{objective}", "encoder.dropout=0", components=16 if quick else 256
    )
    mixture = made.anchor(config.anchor.components)
    given = made.batch(config, count, seconds, mixture)
    ours = made.Stepper(config, given, mixture)
    view = jax.jit(ours.objective.view)(given, ours.state.key)
    encode = jax.jit(lambda params, view: ours.objective.encode(params, view.mixed, view.lengths, view.mask, None).z)
    z = encode(ours.state.params, view)
    theirs = Peer(config, ours.objective, jax.device_get(ours.state.params), given, np.asarray(view.mask))
    with torch.no_grad():
        found = theirs.parts["encoder"](theirs.audio, mask_time_indices=theirs.mask).last_hidden_state
    error = float(np.abs(np.asarray(z) - found.numpy()).max())
    assert error < 1e-3, f"{objective}: the encoders differ by {error:.1e}"
    loss, norm = theirs.gradients()
    ours.run()
    for name, x in {"loss": loss, "grad_norm": norm}.items():
        expected = float(ours.metrics[name])
        assert abs(x / expected - 1) < 1e-3, f"{objective}: {name} is {expected:.6g} here and {x:.6g} in torch"
    return ours, theirs


def rows(quick: bool, work: Path, data: Path | None) -> list[Row]:
    table, turns, steps = [], 2 if quick else 10, 1 if quick else 5
    for objective in OBJECTIVES:
        ours, theirs = pair(objective, quick)
        times = alternate({"ours": partial(ours.run, steps), "theirs": partial(theirs.run, steps)}, turns)
        count, samples = ours.batch["audio"].shape
        each = {name: [seconds / steps for seconds in found] for name, found in times.items()}
        config = f"configs/{'tiny' if quick else 'smoke'}.py:{objective}"
        what = f"train step, {config}, {count} x {samples / 16_000:.1f} s"
        note = "same weights and masks: encoder output, loss and norm of the gradient agree to 1e-3 before timing"
        table.append(Row(what, "torch", each["ours"], each["theirs"], goal=1.0, note=note))
        jax.clear_caches()
    return table
