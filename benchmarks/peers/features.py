"""All layers of HuBERT Base by transformers, as features are extracted: evaluation, no gradient.

    from peers import features
    extract = features.make(rows=16, seconds=15.0, device="cuda")
    layers = extract()  # 13 of (16, 749, 768)

On a GPU bfloat16 weights and activations in one compiled graph, on CPU float32 as it is. In its favour: SDPA attention,
no padding mask, inference mode, and its modules called one by one, which compiles without a break.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import nn

from peers.peer import noise
from peers.published import SYSTEMS, build


@dataclass
class Extractor:
    model: nn.Module
    audio: torch.Tensor
    layers: Callable[[torch.Tensor], list[torch.Tensor]]

    @torch.inference_mode()
    def __call__(self) -> list[torch.Tensor]:
        """The input of the first block and each block's output, (rows, T, D) each."""
        return self.layers(self.audio)

    def describe(self) -> dict[str, Any]:
        """Versions, device, batch and precision."""
        return {
            "system": "hubert features",
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "attention": self.model.config._attn_implementation,
            "device": torch.cuda.get_device_name() if self.audio.is_cuda else "cpu",
            "precision": str(self.audio.dtype).removeprefix("torch."),
            "compile": self.audio.is_cuda,
            "rows": self.audio.shape[0],
            "samples": self.audio.shape[1],
        }


def make(rows: int, seconds: float, device: str, toy: bool = False) -> Extractor:
    """`rows` waves of that length on the device, "cuda" or "cpu"; toy: two blocks of width 32."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = build(SYSTEMS["hubert"], toy).eval().to(device, dtype)

    def layers(audio: torch.Tensor) -> list[torch.Tensor]:
        encoder = model.encoder
        x = model.feature_projection(model.feature_extractor(audio).transpose(1, 2))
        found = [encoder.layer_norm(x + encoder.pos_conv_embed(x))]
        for layer in encoder.layers:
            found.append(layer(found[-1]))
        return found

    if device == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
        layers = torch.compile(layers)
    return Extractor(model, noise(rows, seconds, device).to(dtype), layers)
