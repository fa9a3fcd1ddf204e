"""A model, its batch on the device, and one training step of it: what every peer is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


@dataclass(frozen=True)
class Recipe:
    """AdamW's settings; no weight decay on biases, gains and other vectors. clip: largest gradient norm, 0: none."""

    learning_rate: float
    warmup_steps: int
    clip: float = 0.0
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = 1e-6
    weight_decay: float = 0.01


@dataclass
class Peer:
    """loss(*before(*batch)), where `loss` is the module, compiled where it was asked for.

    before: what a step computes of its batch outside of the module. after(step): what follows the optimiser, an EMA.

    In the peer's favour: bfloat16 autocast over float32 weights, TF32 for what stays float32, AdamW in one fused
    kernel, gradients freed instead of zeroed, and nothing read back to the host.
    """

    module: nn.Module
    batch: tuple[torch.Tensor, ...]
    recipe: Recipe
    facts: dict[str, Any]
    compile: bool = False
    before: Callable[..., tuple[torch.Tensor, ...]] = lambda *batch: batch
    after: Callable[[int], None] = lambda step: None
    steps: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.device = self.batch[0].device.type
        if self.device == "cuda":
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.benchmark = True
        self.loss = torch.compile(self.module) if self.compile else self.module
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        r = self.recipe
        groups = [
            {"params": [p for p in self.parameters if p.ndim > 1], "weight_decay": r.weight_decay},
            {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        fused = True if self.device == "cuda" else None
        self.optimizer = torch.optim.AdamW(groups, lr=r.learning_rate, betas=r.betas, eps=r.epsilon, fused=fused)

    def step(self) -> torch.Tensor:
        """One training step; the loss, a scalar that stays on the device."""
        batch = self.before(*self.batch)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            loss = self.loss(*batch)
        loss.backward()
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        self.steps += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * min(1.0, self.steps / max(1, self.recipe.warmup_steps))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.after(self.steps)
        return loss.detach()

    def describe(self) -> dict[str, Any]:
        """Versions, device, batch, precision, parameters that train, and what the system adds: attention, dropout."""
        cuda = self.device == "cuda"
        return self.facts | {
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if cuda else "cpu",
            "precision": "bfloat16 autocast, float32 weights" if cuda else "float32",
            "compile": self.compile,
            "rows": self.batch[0].shape[0],
            "samples": self.batch[0].shape[1],
            "parameters": sum(p.numel() for p in self.parameters),
        }


def ema(teacher: nn.Module, student: nn.Module, decay: Callable[[int], float]) -> Callable[[int], None]:
    """What moves the teacher towards the student after a step: θ_t ← d θ_t + (1 − d) θ_s, all parameters at once."""
    pairs = list(teacher.parameters()), list(student.parameters())

    def move(step: int) -> None:
        get_ema_multi_avg_fn(decay(step))(*pairs, None)

    return move


def noise(rows: int, seconds: float, device: str) -> torch.Tensor:
    """Waves (rows, seconds * 16000), standard normal: speech would take the same time."""
    return torch.randn(rows, round(seconds * 16_000), device=device)
