"""wav2vec 2.0's loss and quantiser against transformers', on the same weights, masks, distractors and noise."""

from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from parity.oracles import Difference, arrays_of, randomised, waves
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2GumbelVectorQuantizer,
    _compute_mask_indices,
    _sample_negative_indices,
)

from jepa_speech.config import from_section
from jepa_speech.features.grid import frames
from jepa_speech.huggingface.parameters import from_huggingface
from jepa_speech.nn.module import Pure
from jepa_speech.nn.quantizer import GumbelQuantizer, QuantizerConfig
from jepa_speech.nn.wav2vec2 import Wav2Vec2Config, Wav2Vec2Encoder
from jepa_speech.objective_parts.contrastive import contrastive_terms, diversity, perplexity

# Hidden states differ by some 1e-5, and a logit is ten times a cosine; but a loss is a mean over frames. In
# perplexities, ours adds 1e-7 to each probability before the logarithm: 3e-5 of them where there are 320 codes.
LOSS_TOLERANCE = 1e-4
# One layer, float32, and gradients are given relative to their largest entry.
GRADIENT_TOLERANCE = 1e-5


class Draws(NamedTuple):
    """What both sides are given: mask (B, T) bool, negatives (B, T, K), each the index of a frame of its own row."""

    mask: np.ndarray
    negatives: np.ndarray


def draws(lengths: np.ndarray, count: int, seed: int = 0) -> Draws:
    """By transformers' own samplers, in one row after the other, which know no padding."""
    np.random.seed(seed)  # noqa: NPY002  (those samplers draw from it)
    mask = np.zeros((len(lengths), frames(lengths.max())), bool)
    negatives = np.zeros((*mask.shape, count), int)
    for row, length in enumerate(frames(lengths)):
        mask[row, :length] = _compute_mask_indices((1, length), 0.65, 10, min_masks=2)[0]
        negatives[row, :length] = _sample_negative_indices((1, length), count, mask[row : row + 1, :length])[0]
    return Draws(mask, negatives)


def wav2vec2_loss(config: dict[str, Any], seconds: list[float], label: str) -> list[Difference]:
    """Losses in evaluation, where the likeliest codes are chosen, and the soft perplexity of the training mode.

    transformers sums over masked frames, we average. Its diversity in evaluation is that of the codes chosen,
    not of their probabilities, so ours is given how often each was; the probabilities are compared separately.
    """
    kind = transformers.Wav2Vec2Config(**config)
    model = randomised(lambda: transformers.Wav2Vec2ForPreTraining(kind))
    wave, lengths = waves(seconds)
    drawn = draws(lengths, kind.num_negatives)
    ours = our_losses(model, wave, lengths, drawn)
    theirs = their_losses(model, wave, lengths, drawn)
    return [Difference(label, what, abs(ours[what] - theirs[what]), LOSS_TOLERANCE) for what in theirs]


def our_losses(model: torch.nn.Module, wave: np.ndarray, lengths: np.ndarray, drawn: Draws) -> dict[str, float]:
    kind = model.config
    imported = from_huggingface(kind.to_dict(), arrays_of(model))
    config = from_section(Wav2Vec2Config, imported.section, "encoder")
    codes = QuantizerConfig(kind.num_codevector_groups, kind.num_codevectors_per_group, kind.codevector_dim)
    encoder = Pure(lambda rngs: Wav2Vec2Encoder(config, "learned", rngs))
    quantizer = Pure(lambda rngs: GumbelQuantizer(config.channels, codes, rngs))
    weight = kind.diversity_loss_weight

    @jax.jit
    def losses(params: Any, heads: Any) -> dict[str, jax.Array]:
        encoded = encoder.apply(params, jnp.asarray(wave), jnp.asarray(lengths), jnp.asarray(drawn.mask))
        quantized = quantizer.apply(heads["quantizer"], encoded.features, 1.0)
        context, targets = (
            x @ heads[name]["kernel"] + heads[name]["bias"]
            for name, x in (("final_proj", encoded.z), ("project_q", quantized.vectors))
        )
        hidden = jnp.asarray(drawn.mask, jnp.float32)
        temperature = kind.contrastive_logits_temperature
        terms, stats = contrastive_terms(context, targets, quantized, drawn.negatives, hidden, temperature, 1.0, weight)
        contrastive, soft = (term.total / term.weight for term in (terms["contrastive"], terms["diversity"]))
        hard = diversity(stats["codes"] / hidden.sum())
        return {
            "contrastive loss": contrastive,
            "diversity loss": hard,
            "total loss": contrastive + weight * hard,
            "diversity loss of the probabilities": terms["diversity"].of(soft),
        }

    return jax.tree.map(float, losses(imported.encoder, imported.extra))


def their_losses(model: torch.nn.Module, wave: np.ndarray, lengths: np.ndarray, drawn: Draws) -> dict[str, float]:
    mask, rows = torch.tensor(drawn.mask), np.arange(len(wave))[:, None, None]
    heard: list[torch.Tensor] = []
    hook = model.quantizer.register_forward_pre_hook(lambda module, inputs: heard.append(inputs[0]))
    padded = len(set(lengths)) > 1
    with torch.no_grad():
        out = model(
            torch.tensor(wave),
            attention_mask=torch.arange(wave.shape[1])[None] < torch.tensor(lengths)[:, None] if padded else None,
            mask_time_indices=mask,
            sampled_negative_indices=torch.tensor(drawn.negatives + mask.shape[1] * rows),  # of all rows' frames
        )
        hook.remove()
        soft = model.quantizer.train()(heard[0], mask)[1]
    size, hidden = model.quantizer.num_groups * model.quantizer.num_vars, mask.sum()
    theirs = {
        "contrastive loss": out.contrastive_loss / hidden,
        "diversity loss": out.diversity_loss / hidden,
        "total loss": out.loss / hidden,
        "diversity loss of the probabilities": (size - soft) / size,
    }
    return {what: float(value) for what, value in theirs.items()}


def their_quantizer(config: transformers.Wav2Vec2Config) -> torch.nn.Module:
    def make() -> torch.nn.Module:
        quantizer = Wav2Vec2GumbelVectorQuantizer(config)
        torch.nn.init.uniform_(quantizer.codevectors)  # left uninitialised where no whole model is made
        return quantizer

    return randomised(make)


def gumbel_quantizer(config: dict[str, Any], shape: tuple[int, int], label: str) -> list[Difference]:
    """Forward and backward of the noisy choice, with our noise laid into torch's; shape: rows and frames.

    Gradients are those of a random linear function of the code vectors, relative to the largest entry.
    """
    kind, tau = transformers.Wav2Vec2Config(**config), 0.7
    theirs = their_quantizer(kind).train()
    theirs.temperature = tau
    groups, codes, width = kind.num_codevector_groups, kind.num_codevectors_per_group, kind.codevector_dim
    rng = np.random.default_rng(0)
    features = rng.normal(size=(*shape, kind.conv_dim[-1])).astype(np.float32)
    pull = rng.normal(size=(*shape, width)).astype(np.float32)
    mask = rng.random(shape) < 0.5
    keys = jax.random.split(jax.random.PRNGKey(0), shape[0])
    noise = torch.tensor(np.stack([jax.random.gumbel(key, (shape[1], groups, codes)) for key in keys]))

    def gumbel_softmax(logits: torch.Tensor, tau: float, hard: bool) -> torch.Tensor:
        """torch's own, but for where the noise comes from."""
        assert hard
        soft = torch.softmax((logits + noise.reshape(logits.shape)) / tau, -1)
        choice = torch.nn.functional.one_hot(soft.argmax(-1), codes)
        return choice - soft.detach() + soft

    with mock.patch.object(torch.nn.functional, "gumbel_softmax", gumbel_softmax):
        vectors, their_perplexity = theirs(torch.tensor(features), torch.tensor(mask))
    (vectors * torch.tensor(pull)).sum().backward()

    quantizer = Pure(lambda rngs: GumbelQuantizer(kind.conv_dim[-1], QuantizerConfig(groups, codes, width), rngs))
    weight, bias, vectors_there = (
        x.detach().numpy() for x in (theirs.weight_proj.weight, theirs.weight_proj.bias, theirs.codevectors)
    )
    params = {"logits": {"kernel": weight.T, "bias": bias}, "vectors": vectors_there.reshape(groups, codes, -1)}

    @jax.jit
    def forward(params: Any) -> tuple[jax.Array, Any]:
        out = quantizer.apply(params, features, tau, keys)
        return (out.vectors * pull).sum(), out

    gradient, out = jax.grad(forward, has_aux=True)(jax.tree.map(jnp.asarray, params))
    used = np.asarray(out.probs)[mask].mean(0)  # (G, V)
    pairs = {
        "weight": (gradient["logits"]["kernel"].T, theirs.weight_proj.weight.grad),
        "bias": (gradient["logits"]["bias"], theirs.weight_proj.bias.grad),
        "code vectors": (gradient["vectors"].reshape(vectors_there.shape), theirs.codevectors.grad),
    }
    relative = {what: np.abs(a - b.numpy()).max() / b.abs().max().item() for what, (a, b) in pairs.items()}
    ratio = perplexity(used).sum() / their_perplexity.item()
    return [
        Difference(label, "code vectors", np.abs(out.vectors - vectors.detach().numpy()).max(), GRADIENT_TOLERANCE),
        Difference(label, "perplexity of the probabilities, relative", abs(ratio - 1), LOSS_TOLERANCE),
        *(Difference(label, f"gradient of {what}, relative", e, GRADIENT_TOLERANCE) for what, e in relative.items()),
    ]
