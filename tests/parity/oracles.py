"""Our encoders against transformers', on the same weights: what differs, by how much, and how much may.

Each function takes the size from its caller: tests call it with tiny shapes, `make parity` with those of the papers.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from jepa_speech.config import from_section
from jepa_speech.features.grid import frames
from jepa_speech.huggingface.parameters import from_huggingface
from jepa_speech.nn.build_encoder import standardise
from jepa_speech.nn.module import Encoded, Pure
from jepa_speech.nn.wav2vec2 import Wav2Vec2Config, Wav2Vec2Encoder

MODELS = {
    "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
    "hubert": (transformers.HubertConfig, transformers.HubertModel),
    "wavlm": (transformers.WavLMConfig, transformers.WavLMModel),
    "data2vec-audio": (transformers.Data2VecAudioConfig, transformers.Data2VecAudioModel),
    "unispeech": (transformers.UniSpeechConfig, transformers.UniSpeechModel),
    "unispeech-sat": (transformers.UniSpeechSatConfig, transformers.UniSpeechSatModel),
}
# Two float32 programs that sum in another order, over some ten blocks with outputs near 1: about 1e-5 is what
# they differ by. A wrong epsilon, gate or padding shows at 1e-3 and above.
TOLERANCE = 1e-4


class Difference(NamedTuple):
    """Largest absolute error of one quantity."""

    system: str
    what: str
    error: float
    tolerance: float


def their_model(name: str, config: dict[str, Any], seed: int = 0) -> torch.nn.Module:
    """A model of transformers with the weights of `randomised`."""
    kind, model = MODELS[name]
    return randomised(lambda: model(kind(**config)), seed)


def randomised(make: Callable[[], torch.nn.Module], seed: int = 0) -> torch.nn.Module:
    """The model made, in evaluation, with random weights, large enough for each of them to show in the output."""
    torch.manual_seed(seed)
    model = make().eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn_like(parameter)
            if parameter.shape[0] == 1 or parameter.ndim == 1:  # gains and biases
                parameter.add_(0.1 * noise)
            elif "embed.weight" in key:  # WavLM's table of biases
                parameter.copy_(noise)
            else:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
        for key, buffer in model.named_buffers():
            if key.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 2)
    return model


def arrays_of(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: x.numpy() for name, x in model.state_dict().items()}


def waves(seconds: list[float], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(B, S) standardised noise, padded with zeros; lengths (B,)."""
    lengths = np.array([round(16_000 * s) for s in seconds])
    noise = np.random.default_rng(seed).normal(0.1, 0.3, (len(lengths), lengths.max())).astype(np.float32)
    return np.asarray(standardise(jnp.asarray(noise), jnp.asarray(lengths))), lengths


def our_layers(model: torch.nn.Module, wave: np.ndarray, lengths: np.ndarray) -> Encoded:
    imported = from_huggingface(model.config.to_dict(), arrays_of(model))
    encode = encoder_of(from_section(Wav2Vec2Config, imported.section, "encoder"))
    return encode(imported.encoder, jnp.asarray(wave), jnp.asarray(lengths))


@cache
def encoder_of(config: Wav2Vec2Config) -> Callable[..., Encoded]:
    """Cached, because many public models are one encoder here: it is compiled once."""
    return jax.jit(Pure(lambda rngs: Wav2Vec2Encoder(config, "learned", rngs)).apply)


def compare(name: str, config: dict[str, Any], seconds: list[float], label: str = "") -> list[Difference]:
    """All of `Encoded` against a transformers model with that config and random weights, over the rows' valid frames.

    Rows of different `seconds` are padded, which the published code is made for where nothing is normalised over time.
    """
    model = their_model(name, config)
    wave, lengths = waves(seconds)
    ours = our_layers(model, wave, lengths)
    theirs = their_layers(model, wave, lengths)
    inside = np.arange(frames(wave.shape[1])) < frames(lengths)[:, None]
    energy = theirs.energy[inside].mean()  # 1e-4 with some weights
    quantities = {
        "front-end": (ours.features, theirs.features),
        "energy, relative": (ours.energy / energy, theirs.energy / energy),
    }
    for what, a, b in (("hidden state", ours.layers, theirs.layers), ("feed-forward", ours.ff, theirs.ff)):
        quantities |= {f"{what} {i}": pair for i, pair in enumerate(zip(a, b, strict=True))}
    return [
        Difference(label or name, what, float(np.abs(a - b)[inside].max()), TOLERANCE)
        for what, (a, b) in quantities.items()
    ]


def their_layers(model: torch.nn.Module, wave: np.ndarray, lengths: np.ndarray) -> Encoded:
    """What `our_layers` gives, from transformers; what it does not return is caught on its way."""
    caught: dict[str, torch.Tensor] = {}

    def catch(what: str) -> Callable[..., None]:
        return lambda module, inputs, output: caught.update({what: output})

    blocks = model.encoder.layers
    modules = {"raw": model.feature_extractor}
    if hasattr(model.feature_projection, "layer_norm"):  # HuBERT may have none, and projects what is raw
        modules["features"] = model.feature_projection.layer_norm
    modules |= {f"ff {i}": block.feed_forward.output_dense for i, block in enumerate(blocks)}
    hooks = [module.register_forward_hook(catch(what)) for what, module in modules.items()]
    padded = len(set(lengths)) > 1
    attention = torch.arange(wave.shape[1])[None] < torch.tensor(lengths)[:, None] if padded else None
    with torch.no_grad():
        out = model(torch.tensor(wave), attention_mask=attention, output_hidden_states=True)
    for hook in hooks:
        hook.remove()
    layers, raw = [*out.hidden_states[:-1], out.last_hidden_state], caught["raw"]  # (B, C, T)
    return Encoded(
        z=layers[-1].numpy(),
        layers=[x.numpy() for x in layers],
        frame_lengths=frames(lengths),
        features=caught.get("features", raw.mT).numpy(),
        energy=raw.square().mean(1).numpy(),
        ff=[caught[f"ff {i}"].numpy() for i in range(len(blocks))],
    )
