"""The small gmm_jepa and hubert in plain torch: the same architecture, loss and update, as a user would write them.

The encoder is the file that `jepa-speech export hf` copies. Three things favour this peer: masks are drawn beforehand,
nothing is measured beside the loss (our step also sums the inputs of its collapse figures), and AdamW is one fused
kernel.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from jepa_speech.huggingface.modeling_jepa_speech import (
    EPSILON,
    JepaSpeechConfig,
    JepaSpeechModel,
    TransformerBlock,
)
from jepa_speech.huggingface.own_encoder import their_name, to_torch, turned

Batch = dict[str, torch.Tensor]


class Predictor(nn.Module):
    """A token where the input was hidden, one block, norm, linear."""

    def __init__(self, config: JepaSpeechConfig, blocks: int):
        super().__init__()
        width = config.hidden_size
        self.input, self.output = nn.Linear(width, width), nn.Linear(width, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(blocks))
        self.norm = nn.LayerNorm(width, EPSILON)

    def forward(self, z: torch.Tensor, mask: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
        """z (B, T, D), mask (B, T) -> (B, T, D); crops are whole, so that no frame is padding."""
        x = torch.where(mask[..., None], self.mask_token, self.input(z))
        angle = torch.arange(x.shape[1])[:, None] * frequencies
        for block in self.blocks:
            x = block(x, None, None, angle.cos(), angle.sin())
        return self.output(self.norm(x))


class ClusterHead(nn.Module):
    """Linear, norm, GELU, residual blocks, norm, linear."""

    def __init__(self, width: int, clusters: int, hidden: int, blocks: int):
        super().__init__()
        self.input, self.output = nn.Linear(width, hidden), nn.Linear(hidden, clusters)
        self.input_norm, self.output_norm = nn.LayerNorm(hidden, EPSILON), nn.LayerNorm(hidden, EPSILON)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden, EPSILON) for _ in range(blocks))
        self.up = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(blocks))
        self.down = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(blocks))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> logits (B, T, K)"""
        x = F.gelu(self.input_norm(self.input(z)), approximate="tanh")
        for norm, up, down in zip(self.norms, self.up, self.down, strict=True):
            x = x + down(F.gelu(up(norm(x)), approximate="tanh"))
        return self.output(self.output_norm(x))


class UnitHead(nn.Module):
    """Cosine of a projection to learned embeddings, over the temperature."""

    def __init__(self, width: int, clusters: int, projection: int, temperature: float):
        super().__init__()
        self.projection, self.temperature = nn.Linear(width, projection), temperature
        self.embeddings = nn.Parameter(torch.zeros(clusters, projection))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> logits (B, T, K)"""
        x = F.normalize(self.projection(z), dim=-1) @ F.normalize(self.embeddings, dim=-1).T
        return x / self.temperature


def mean(x: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    return (x * chosen).sum() / chosen.sum().clamp(min=1)


def kl_to_sparse(ids: torch.Tensor, q: torch.Tensor, log_p: torch.Tensor) -> torch.Tensor:
    """KL(q ‖ p) over the listed components and the pool of all others: (B, T, k), (B, T, k), (B, T, K) -> (B, T)."""
    total = q.sum(-1, keepdim=True)
    q = q / total.clamp(min=1)
    listed = (torch.xlogy(q, q) - q * log_p.gather(-1, ids)).sum(-1)
    rest = (1 - total[..., 0]).clamp(min=0)
    pool = log_p.scatter(-1, ids, -torch.inf).logsumexp(-1)
    return listed + torch.xlogy(rest, rest) - rest * pool


class Peer:
    """A training step; objective, params and batch are ours, and so are the weights and masks that it begins with."""

    def __init__(self, config: Any, objective: Any, params: dict[str, Any], given: dict[str, Any], mask: np.ndarray):
        clusters, self.objective, self.settings = config.anchor.components, config.objective, objective.config
        theirs, arrays = to_torch(config.encoder, params["encoder"])
        shape = JepaSpeechConfig(**theirs)
        self.parts = nn.ModuleDict({"encoder": loaded(JepaSpeechModel(shape), arrays)})
        if config.objective.name == "gmm_jepa":
            self.loss: Callable[[], torch.Tensor] = self.gmm_jepa
            head = ClusterHead(shape.hidden_size, clusters, config.head.width, config.head.blocks)
            predictor = Predictor(shape, self.settings.predictor_blocks)
            self.parts["predictor"] = loaded(predictor, renamed(params["predictor"]))
            self.teacher = loaded(JepaSpeechModel(shape), arrays).requires_grad_(False)
        else:
            self.loss = self.hubert
            head = UnitHead(shape.hidden_size, clusters, self.settings.projection, self.settings.temperature)
        self.parts["head"] = loaded(head, renamed(params["head"]))
        self.batch = {name: torch.from_numpy(np.array(x)) for name, x in given.items()}
        self.audio = self.batch["audio"] / self.batch["level"][:, None]
        self.ids, self.mask = self.batch["anchor_ids"].long(), torch.from_numpy(np.array(mask))
        self.parameters, optim = list(self.parts.parameters()), config.optim
        decayed = [
            {"params": [p for p in self.parameters if p.ndim > 1], "weight_decay": optim.weight_decay},
            {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        rate = optim.learning_rate / max(1, optim.warmup_steps)
        self.optimizer = torch.optim.AdamW(decayed, lr=rate, betas=tuple(optim.betas), eps=optim.epsilon, fused=True)
        self.clip, self.decay = optim.clip, self.settings.ema_start if "predictor" in self.parts else 0.0

    def gmm_jepa(self) -> torch.Tensor:
        z = self.parts["encoder"](self.audio, mask_time_indices=self.mask).last_hidden_state
        prediction = self.parts["predictor"](z, self.mask, self.parts["encoder"].frequencies)
        with torch.no_grad():
            target = self.teacher(self.audio).last_hidden_state
            target = F.layer_norm(target, target.shape[-1:])
        error = (prediction - target).square().mean(-1)
        log_p = self.parts["head"](z).log_softmax(-1)
        divergence = kl_to_sparse(self.ids, self.batch["anchor_probs"], log_p)
        cluster = mean(divergence, self.mask) + self.settings.visible_weight * mean(divergence, ~self.mask)
        return self.settings.jepa_weight * mean(error, self.mask) + self.settings.lambda_start * cluster

    def hubert(self) -> torch.Tensor:
        z = self.parts["encoder"](self.audio, mask_time_indices=self.mask).last_hidden_state
        logits = self.parts["head"](z)
        surprise = F.cross_entropy(logits.transpose(1, 2), self.ids[..., 0], reduction="none")
        return mean(surprise, self.mask) + self.settings.visible_weight * mean(surprise, ~self.mask)

    def gradients(self) -> tuple[float, float]:
        """Loss, and the norm of its gradient, which is left in the parameters."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.clip or torch.inf)
        return loss.item(), norm.item()

    def run(self, steps: int = 1) -> None:
        for _ in range(steps):
            self.gradients()
            self.optimizer.step()
            if self.decay:
                student = list(self.parts["encoder"].parameters())
                torch._foreach_lerp_(list(self.teacher.parameters()), student, 1 - self.decay)


def loaded(module: nn.Module, arrays: dict[str, np.ndarray]) -> nn.Module:
    module.load_state_dict({name: torch.from_numpy(np.array(x)) for name, x in arrays.items()}, strict=True)
    return module


def renamed(params: dict[str, Any]) -> dict[str, np.ndarray]:
    return {their_name(path): turned(path, x) for path, x in jax.tree_util.tree_leaves_with_path(params)}
