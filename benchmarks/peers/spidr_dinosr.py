"""DinoSR's step by PyPI `spidr` (0.2 or later, Python 3.12 or later), Meta's own re-implementation, at our sizes.

    from peers import spidr_dinosr
    peer = spidr_dinosr.make("dinosr", rows=8, seconds=15.6, device="cuda", compile=True)

As in peers/published.py, in its favour too: masks drawn on the device, layerdrop 0, no clipping, no padding mask. Its
attention is SDPA, its teacher shares the front-end's pass, its heads and codebooks see hidden frames only.
"""

from importlib.metadata import version

import torch
from spidr.config import DEFAULT_CONV_LAYER_CONFIG, DinoSRConfig
from spidr.models import DinoSR
from torch import nn

from peers.masks import span_mask
from peers.peer import Peer, Recipe, noise
from peers.published import SPAN, SYSTEMS

RATES = {"encoder_dropout": 0.1, "encoder_attention_dropout": 0.1, "encoder_layer_drop": 0.0}
TOY = {
    "extractor_conv_layer_config": [(16, kernel, stride) for _, kernel, stride in DEFAULT_CONV_LAYER_CONFIG],
    "encoder_embed_dim": 32,
    "encoder_num_layers": 2,
    "encoder_num_heads": 4,
    "encoder_ff_interm_features": 64,
    "encoder_pos_conv_groups": 4,
    "num_codebooks": 2,
}


def make(system: str, rows: int, seconds: float, device: str, compile: bool, toy: bool = False) -> Peer:
    """The peer of peers.published.make("dinosr", ...): same batch, masks and optimiser, another implementation."""
    if system != "dinosr":
        raise ValueError(f"system {system!r}: spidr has dinosr alone")
    torch.manual_seed(0)
    module = Step(assemble(toy))
    recipe = Recipe(1e-3 if toy else 5e-4, 0 if toy else SYSTEMS[system].warmup_steps)
    facts = {"system": "dinosr (spidr)", "spidr": version("spidr"), "attention": "sdpa", "dropout": RATES}
    return Peer(module.to(device).train(), (noise(rows, seconds, device),), recipe, facts, compile, after=module.after)


def assemble(toy: bool) -> DinoSR:
    """Its model at Base size; biases of query, key and value on, as in ours and the authors' code."""
    return DinoSR(DinoSRConfig(encoder_qkv_bias=True, **RATES, **(TOY if toy else {})))


class Step(nn.Module):
    """The mean of what the model says of each hidden frame; it moves its codebooks itself."""

    def __init__(self, model: DinoSR):
        super().__init__()
        self.model = model

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        frames = (audio.shape[1] - 400) // 320 + 1
        _, hidden = span_mask(len(audio), frames, SYSTEMS["dinosr"].mask, SPAN, audio.device)
        return self.model(audio, mask_indices=hidden)[0].mean()

    def after(self, step: int) -> None:
        self.model.update_ema(step)
