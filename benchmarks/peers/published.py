"""Steps of the published Base models on transformers' own modules: configs/{wav2vec2,hubert,wavlm,data2vec,dinosr}.py.

    from peers import published
    peer = published.make("hubert", rows=8, seconds=15.6, device="cuda", compile=True)
    peer.step()

Same sizes, dropout, masks, losses and optimiser as those configs. What was chosen in the peer's favour:

- SDPA attention, that is FlashAttention's kernels on a GPU, wherever transformers has it. Its WavLM calls torch's
  multi_head_attention_forward and has nothing else.
- No padding mask: all rows are full. No gradient checkpointing.
- Layerdrop is 0, and the encoder's own training flag off (not its layers'), since some versions read a host's random
  number back at every layer, which breaks torch.compile. The front-end's flag is off, too: it has no dropout, and
  would otherwise compute the gradient of the waveform.
- Masks and distractors are drawn on the device, M hidden frames a row (masks.py); heads see these frames alone.
- Modules are called one by one, and frames hidden by torch.where: transformers' own indexing by a mask waits for the
  device, and its backward pass does not compile. For the same reason wav2vec 2.0 has the modules and parameters of
  Wav2Vec2ForPreTraining, but not its forward: quantiser and loss see hidden frames only, distractors are read from one
  matrix of similarities, and nothing branches on what the device found. The temperature stays at 2, where it starts:
  a number that changes would compile the step again.
- Teachers share the front-end's one pass with the student, and DinoSR's distances are TF32.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import nn
from torch.nn import functional as F

from peers.masks import distractors, span_mask
from peers.peer import Peer, Recipe, ema, noise

UNITS, TOP, CODES = 500, 8, 256
SPAN = 10  # frames
RATES = {"hidden_dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.0, "layerdrop": 0.0}
INPUT_DROPOUT = {"feat_proj_dropout": 0.1, "feat_quantizer_dropout": 0.1}
STACKED = {"feat_proj_dropout": 0.0, "num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19}
TOY: dict[str, Any] = {
    "conv_dim": [16] * 7,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_conv_pos_embedding_groups": 4,
}
TOY_POSITIONS = {"num_conv_pos_embeddings": 16}
TOY_CODES = {"num_codevectors_per_group": 6, "codevector_dim": 10, "proj_codevector_dim": 12, "num_negatives": 7}
TOY_UNITS, TOY_TOP, TOY_PROJECTION = 8, 2, 12


@dataclass(frozen=True)
class System:
    """What transformers calls it, its dropout and positions, and its part of the recipe."""

    model: str
    config: str
    options: dict[str, Any]
    mask: float  # probability
    clip: float
    warmup_steps: int


SYSTEMS = {
    "wav2vec2": System("Wav2Vec2ForPreTraining", "Wav2Vec2Config", INPUT_DROPOUT, 0.65, 0.0, 32_000),
    "hubert": System("HubertModel", "HubertConfig", INPUT_DROPOUT, 0.8, 10.0, 32_000),
    "wavlm": System("WavLMModel", "WavLMConfig", INPUT_DROPOUT, 0.8, 10.0, 32_000),
    "data2vec": System("Data2VecAudioModel", "Data2VecAudioConfig", STACKED, 0.65, 0.0, 12_000),
    "dinosr": System("Data2VecAudioModel", "Data2VecAudioConfig", STACKED, 0.8, 0.0, 12_000),
}


def make(system: str, rows: int, seconds: float, device: str, compile: bool, toy: bool = False) -> Peer:
    """One of SYSTEMS with `rows` waves of that length on the device: "cuda" in bfloat16, or "cpu" in float32.

    toy: two blocks of width 32, to try it out.
    """
    torch.manual_seed(0)
    published, module = SYSTEMS[system], assemble(system, toy)
    training(module)
    audio = noise(rows, seconds, device)
    batch, after = (audio,), lambda step: None
    if isinstance(module, Units):
        frames = (audio.shape[1] - 400) // 320 + 1
        batch = audio, torch.randint(0, len(module.embeddings), (rows, frames), device=device)
    if isinstance(module, SelfDistilled):
        blocks = module.model.encoder.layers
        after = ema(module.teacher, blocks, lambda step: 0.999 + 0.0009 * min(1.0, step / 30_000))
    recipe = Recipe(1e-3 if toy else 5e-4, 0 if toy else published.warmup_steps, published.clip)
    attention = module.model.config._attn_implementation
    facts = {
        "system": system,
        "transformers": transformers.__version__,
        "attention": "torch multi_head_attention_forward" if system == "wavlm" else attention,
        "dropout": RATES | published.options,
    }
    return Peer(module.to(device), batch, recipe, facts, compile, after=after)


def assemble(system: str, toy: bool) -> nn.Module:
    """The model of one of SYSTEMS with its heads and its loss, fresh."""
    model, mask = build(SYSTEMS[system], toy), SYSTEMS[system].mask
    if system == "wav2vec2":
        return Contrastive(model, mask)
    if system in ("hubert", "wavlm"):
        return Units(model, mask, *((TOY_UNITS, TOY_PROJECTION) if toy else (UNITS, 256)))
    return {"data2vec": Regression, "dinosr": Codes}[system](model, mask, TOY_TOP if toy else TOP)


def build(system: System, toy: bool) -> nn.Module:
    """transformers' model with fresh weights."""
    options = RATES | system.options | {"conv_bias": False}  # sizes: transformers' defaults are the published ones
    if toy:
        options |= TOY | (TOY_CODES if "Training" in system.model else {})
        options |= {} if "num_conv_pos_embeddings" in options else TOY_POSITIONS
    attention = "eager" if "WavLM" in system.model else "sdpa"
    config = getattr(transformers, system.config)(**options, attn_implementation=attention)
    return getattr(transformers, system.model)(config)


def training(module: nn.Module) -> None:
    """Dropout on, but not in the teacher, and not the flags that cost host or device (above)."""
    module.train()
    for name, part in module.named_modules():
        if name.endswith("feature_extractor") or name.endswith("teacher"):
            part.eval()
        elif name.endswith("encoder"):
            part.training = False  # of this module alone


class Masked(nn.Module):
    """A masked model: front-end, what hides frames, encoder."""

    def __init__(self, model: nn.Module, probability: float):
        super().__init__()
        self.model, self.probability = model, probability

    def mask(self, rows: int, frames: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        return span_mask(rows, frames, self.probability, SPAN, device)

    def features(self, audio: torch.Tensor) -> torch.Tensor:
        """(B, S) -> (B, T, C) of the convolutions."""
        return self.model.feature_extractor(audio).transpose(1, 2)

    def slowly(self, features: torch.Tensor) -> torch.Tensor:
        """The same; a tenth of the gradient goes back."""
        return 0.1 * features + 0.9 * features.detach()

    def project(self, features: torch.Tensor) -> torch.Tensor:
        projected = self.model.feature_projection(features)
        return projected[0] if isinstance(projected, tuple) else projected  # (B, T, D)

    def encode(self, projected: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        embedding = self.model.masked_spec_embed.to(projected.dtype)
        x = torch.where(mask[..., None], embedding, projected)
        return self.model.encoder(x).last_hidden_state  # (B, T, D)


def at(x: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """The hidden frames of x (B, T, D), hidden (B, M) -> (B, M, D)."""
    return torch.take_along_dim(x, hidden[..., None], 1)


def penalty(features: torch.Tensor) -> torch.Tensor:
    """Keeps the convolutions' output small."""
    return 10 * features.float().square().mean()


class Contrastive(Masked):
    """wav2vec 2.0: which of a hidden frame's quantised features and those of `num_negatives` others are its own."""

    def __init__(self, model: nn.Module, probability: float):
        super().__init__(model.wav2vec2, probability)
        self.dropout, self.quantizer = model.dropout_features, model.quantizer
        self.project_hid, self.project_q = model.project_hid, model.project_q

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        config, features = self.model.config, self.slowly(self.features(audio))
        mask, hidden = self.mask(*features.shape[:2], audio.device)
        projected, normed = self.model.feature_projection(features)
        z = self.project_hid(at(self.encode(projected, mask), hidden))  # (B, M, D)
        quantized, perplexity = self.quantizer(self.dropout(at(normed, hidden)))
        targets = self.project_q(quantized)
        similarity = F.normalize(z.float(), dim=-1) @ F.normalize(targets.float(), dim=-1).transpose(1, 2) / 0.1
        negatives = distractors(*hidden.shape, config.num_negatives, audio.device)  # (B, M, N)
        negative = similarity.gather(2, negatives)
        # A distractor that has the target's codes is none.
        code = quantized.detach().float().sum(-1)  # (B, M) differs where codes do, by more than rounding
        rows = torch.arange(len(code), device=audio.device)[:, None, None]
        same = (code[rows, negatives] - code[..., None]).abs() < 1e-3
        negative = negative.masked_fill(same, -torch.inf)
        positive = similarity.diagonal(dim1=1, dim2=2)[..., None]
        surprise = -torch.cat([positive, negative], -1).log_softmax(-1)[..., 0].mean()
        codes = config.num_codevectors_per_group * config.num_codevector_groups
        return surprise + 0.1 * (codes - perplexity) / codes + penalty(features)


class Units(Masked):
    """HuBERT and WavLM: cosine of a projection to the units' embeddings, cross-entropy at hidden frames."""

    def __init__(self, model: nn.Module, probability: float, units: int, projection: int):
        super().__init__(model, probability)
        self.projection = nn.Linear(model.config.hidden_size, projection)
        self.embeddings = nn.Parameter(torch.rand(units, projection))

    def forward(self, audio: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
        """audio (B, S), units (B, T) -> the loss, feature penalty included."""
        features = self.slowly(self.features(audio))
        mask, hidden = self.mask(*features.shape[:2], audio.device)
        z = at(self.encode(self.project(features), mask), hidden)  # (B, M, D)
        x = F.normalize(self.projection(z).float(), dim=-1)
        logits = x @ F.normalize(self.embeddings, dim=-1).T / 0.1  # (B, M, K)
        surprise = F.cross_entropy(logits.flatten(0, 1).float(), units.gather(1, hidden).flatten())
        return surprise + penalty(features)


class SelfDistilled(Masked):
    """data2vec and DinoSR: an EMA of the student's blocks reads the student's features, nothing hidden."""

    def __init__(self, model: nn.Module, probability: float, top: int):
        super().__init__(model, probability)
        self.top = top
        self.teacher = copy.deepcopy(model.encoder.layers).requires_grad_(False)

    @torch.no_grad()
    def targets(self, projected: torch.Tensor) -> list[torch.Tensor]:
        """The top feed-forward outputs before the residual, each normalised over time: [(B, T, D)] float32."""
        encoder, found = self.model.encoder, []
        x = encoder.layer_norm(projected + encoder.pos_conv_embed(projected))
        for layer in self.teacher:
            x = layer.layer_norm(x + layer.attention(x)[0])
            ff = layer.feed_forward(x)
            x = layer.final_layer_norm(x + ff)
            found.append(ff)
        return [F.instance_norm(ff.float().transpose(1, 2)).transpose(1, 2) for ff in found[-self.top :]]

    def student(self, audio: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
        """Hidden frames of the output (B, M, D), the targets there [(B, M, D)], and which they are (B, M)."""
        projected = self.project(self.features(audio))
        mask, hidden = self.mask(*projected.shape[:2], audio.device)
        z = self.encode(projected, mask)
        return at(z, hidden), [at(x, hidden) for x in self.targets(projected)], hidden


class Regression(SelfDistilled):
    """data2vec: squared error to the mean of the top targets, summed over D, over √D."""

    def __init__(self, model: nn.Module, probability: float, top: int):
        super().__init__(model, probability, top)
        self.head = nn.Linear(model.config.hidden_size, model.config.hidden_size)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        z, targets, _ = self.student(audio)
        error = self.head(z).float() - torch.stack(targets).mean(0)  # (B, M, D)
        return error.square().sum(-1).mean() / error.shape[-1] ** 0.5


class Codes(SelfDistilled):
    """DinoSR: the codes that online codebooks give the targets; codebooks move after their codes are taken."""

    def __init__(self, model: nn.Module, probability: float, top: int, codes: int = CODES, decay: float = 0.9):
        super().__init__(model, probability, top)
        self.decay = decay
        width = model.config.hidden_size
        self.heads = nn.Linear(width, top * codes)
        self.register_buffer("sums", F.instance_norm(torch.randn(top, width, codes)).transpose(1, 2).contiguous())
        self.register_buffer("counts", torch.ones(top, codes))

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        z, targets, _ = self.student(audio)
        codes = self.assign(torch.stack(targets).flatten(1, 2))  # (K, B M)
        top, size = self.counts.shape
        logits = self.heads(z).float().view(-1, top, size).transpose(0, 1)  # (K, B M, V)
        return F.cross_entropy(logits.flatten(0, 1), codes.flatten())

    @torch.no_grad()
    def assign(self, x: torch.Tensor) -> torch.Tensor:
        """Targets (K, N, D) -> the nearest codewords (K, N); moves the codebooks."""
        with torch.autocast(x.device.type, enabled=False):
            words = self.sums / self.counts[..., None]
            codes = (words.square().sum(-1)[:, None] - 2 * x @ words.transpose(1, 2)).argmin(-1)
            chosen = F.one_hot(codes, self.counts.shape[1]).float()  # (K, N, V)
            counts, sums = chosen.sum(1), chosen.transpose(1, 2) @ x
            used = counts > 0
            moved = self.decay * self.counts + (1 - self.decay) * counts
            self.counts.copy_(torch.where(used, moved, self.counts))
            moved = self.decay * self.sums + (1 - self.decay) * sums
            self.sums.copy_(torch.where(used[..., None], moved, self.sums))
        return codes
