"""The step of the released GMM-anchored JEPA (configs/gmm_jepa_released.py) in PyTorch, with its arithmetic.

    from peers import released
    peer = released.make("gmm_jepa_released", rows=32, seconds=15.0, device="cuda", compile=True)

Encoder on what the student hears, nothing hidden; predictor, cluster head, teacher on the clean wave; squared error to
its layer-normalised output and KL to the mixture's posteriors at hidden frames; clip, AdamW, EMA in float32.

posteriors: `stored` reads them, dense (B, T, K) float32, from the device; `broadcast` computes them in every step as
the release does: log-mel of the clean wave, then (500, 64, 80) frames, components and bands at a time.

What was chosen in the peer's favour: the teacher has no dropout, the two views are made beforehand, masks are drawn on
the device, encoder to loss is one compiled graph, and a chunk of `broadcast` another. Attention is SDPA with the bias
as its mask (sdpa=True), or written out for torch.compile to fuse (False): take the faster one.
"""

import copy
import math

import torch
from torch import nn
from torch.nn import functional as F

from peers.masks import exact_mask
from peers.peer import Peer, Recipe, ema, noise
from peers.released_model import Encoder, Head, Predictor, Sizes, frames

RECIPE = Recipe(1e-5, 0, clip=1.0, betas=(0.8, 0.99), epsilon=1e-8, weight_decay=1e-3)
RATIO, SPAN, DECAY = (0.4, 0.65), (10, 25), 0.996
BANDS, WINDOW, HOP = 80, 400, 320
CHUNK = 500, 64  # frames, components
TOY = {"channels": (2, 4, 4, 8), "width": 16, "res_blocks": 2, "blocks": 2, "heads": 4, "clusters": 8}


def make(
    system: str,
    rows: int,
    seconds: float,
    device: str,
    compile: bool,
    toy: bool = False,
    posteriors: str = "stored",
    sdpa: bool = True,
) -> Peer:
    """The peer with `rows` waves of that length on the device: "cuda" in bfloat16, or "cpu" in float32."""
    if system != "gmm_jepa_released" or posteriors not in ("stored", "broadcast"):
        raise ValueError(f"{system}, posteriors={posteriors}: known are gmm_jepa_released, and stored or broadcast")
    torch.manual_seed(0)
    sizes = Sizes(sdpa=sdpa, **(TOY if toy else {}))
    module = Released(sizes)
    clean = noise(rows, seconds, device)
    q = 5 * torch.randn(rows, frames(clean.shape[1]), sizes.clusters, device=device)
    batch = clean + 0.3 * torch.randn_like(clean), clean, q.softmax(-1)
    mixture = Mixture(sizes.clusters, compile).to(device)
    before = {
        "stored": lambda *batch: batch,
        "broadcast": lambda heard, clean, q: (heard, clean, mixture(clean, q.shape[1])),
    }[posteriors]
    recipe = Recipe(**(vars(RECIPE) | {"learning_rate": 1e-3})) if toy else RECIPE
    facts = {
        "system": system,
        "posteriors": posteriors,
        "attention": "sdpa, bias as mask" if sdpa else "written out",
        "dropout": sizes.dropout,
    }
    module.to(device).train()
    module.teacher.eval()
    after = ema(module.teacher, module.encoder, lambda step: DECAY)
    return Peer(module, batch, recipe, facts, compile, before, after)


class Released(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.encoder, self.predictor, self.head = Encoder(sizes), Predictor(sizes), Head(sizes)
        self.teacher = copy.deepcopy(self.encoder).requires_grad_(False)

    def forward(self, heard: torch.Tensor, clean: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        """heard, clean (B, S), q (B, T, K) -> the loss at λ = 1, where a run starts."""
        mask = exact_mask(len(heard), frames(heard.shape[1]), RATIO, SPAN, heard.device)
        z = self.encoder(heard)
        with torch.no_grad():
            target = self.teacher(clean).float()
            target = F.layer_norm(target, target.shape[-1:])
        jepa, cluster = losses(self.predictor(z, mask), target, self.head(z), q, mask)
        return jepa + cluster


def losses(
    prediction: torch.Tensor, target: torch.Tensor, logits: torch.Tensor, q: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """prediction, target (B, T, D), logits, q (B, T, K), mask (B, T) -> means over hidden frames: squared error, KL."""
    error = (prediction.float() - target).square().mean(-1)  # (B, T)
    divergence = F.kl_div(logits.float().log_softmax(-1), q, reduction="none").sum(-1)
    count = mask.sum()
    return (error * mask).sum() / count, (divergence * mask).sum() / count


class Mixture(nn.Module):
    """A diagonal mixture over log-mel, some mixture, for its values take no time; float32."""

    def __init__(self, clusters: int, compile: bool):
        super().__init__()
        self.register_buffer("means", torch.randn(clusters, BANDS))
        self.register_buffer("covariances", 0.5 + torch.rand(clusters, BANDS))
        self.register_buffer("weights", torch.full((clusters,), 1 / clusters))
        self.register_buffer("window", torch.hann_window(WINDOW))
        self.register_buffer("mel", mel_filters())
        self.log_densities = torch.compile(log_densities) if compile else log_densities

    @torch.no_grad()
    def forward(self, wave: torch.Tensor, size: int) -> torch.Tensor:
        """wave (B, S) -> posteriors (B, size, K)."""
        return self.posteriors(self.log_mel(wave)[:, :size])

    def log_mel(self, wave: torch.Tensor) -> torch.Tensor:
        """(B, S) -> (B, S / 320 + 1, 80), frames centred on multiples of 320, as in the release."""
        spectrum = torch.stft(wave, WINDOW, HOP, window=self.window, return_complex=True)  # (B, 201, T)
        return torch.log(spectrum.abs().square().transpose(1, 2) @ self.mel + 1e-6)

    def posteriors(self, x: torch.Tensor) -> torch.Tensor:
        """x (B, T, 80) -> (B, T, K): every frame against every component, band by band."""
        parts = self.means, self.covariances + 1e-6, torch.log(self.weights + 1e-10)
        components = list(zip(*(part.split(CHUNK[1]) for part in parts), strict=True))
        found = []
        for rows in x.flatten(0, 1).split(CHUNK[0]):
            joint = [self.log_densities(rows, *some) for some in components]
            found.append(torch.cat(joint, 1).softmax(1))
        return torch.cat(found).view(*x.shape[:2], -1)


def log_densities(x: torch.Tensor, means: torch.Tensor, variances: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
    """x (N, F), means, variances (K, F), prior (K,) log weights -> joint log-densities (N, K) by (N, K, F)."""
    distance = (x[:, None] - means).square() / variances  # (N, K, F)
    return prior - 0.5 * (distance + torch.log(2 * math.pi * variances)).sum(-1)


def mel_filters() -> torch.Tensor:
    """Triangles on the HTK mel scale, 0 to 8000 Hz, without area normalisation: (201, 80)."""
    top = 2595 * math.log10(1 + 8000 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, BANDS + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.linspace(0, 8000, WINDOW // 2 + 1, dtype=torch.float64)[:, None]
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.minimum(rise, fall).clamp(min=0).float()
