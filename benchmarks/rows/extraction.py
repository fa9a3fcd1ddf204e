"""Features of audio by HuBERT Base, random weights: this program and transformers, with the same hidden states."""

from pathlib import Path

import jax
import numpy as np
import torch
import transformers
from rows import made
from rows.race import Row, alternate

from jepa_speech.config import from_section
from jepa_speech.huggingface.parameters import from_huggingface
from jepa_speech.nn.build_encoder import standardise
from jepa_speech.nn.module import Pure
from jepa_speech.nn.wav2vec2 import Wav2Vec2Config, Wav2Vec2Encoder

PEERS = ("torch", "transformers")
TOY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
TOY |= {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}


def rows(quick: bool, work: Path, data: Path | None) -> list[Row]:
    count, seconds, turns = (2, 0.5, 2) if quick else (4, 10.0, 5)
    torch.manual_seed(0)
    theirs = transformers.HubertModel(transformers.HubertConfig(**(TOY if quick else {}))).eval()
    arrays = {name: x.numpy() for name, x in theirs.state_dict().items()}
    imported = from_huggingface(theirs.config.to_dict(), arrays)
    config = from_section(Wav2Vec2Config, imported.section, "encoder")
    encoder = Pure(lambda rngs: Wav2Vec2Encoder(config, "learned", rngs))
    lengths = np.full(count, round(16_000 * seconds))
    wave = standardise(jax.numpy.asarray(made.waves(count, lengths[0])), lengths)  # (B, S)
    given, encode = torch.from_numpy(np.array(wave)), jax.jit(lambda *inputs: encoder.apply(*inputs).layers)

    def ours() -> list[np.ndarray]:
        return [np.asarray(layer) for layer in encode(imported.encoder, wave, lengths)]

    def peer() -> list[np.ndarray]:
        with torch.inference_mode():
            out = theirs(given, output_hidden_states=True)
        return [x.numpy() for x in out.hidden_states]

    errors = [np.abs(a - b).max() for a, b in zip(ours(), peer(), strict=True)]
    assert max(errors) < 1e-3, f"hidden states differ by {max(errors):.1e}"
    times = alternate({"ours": ours, "theirs": peer}, turns, warm=False)
    model = "a toy of HuBERT" if quick else "HuBERT Base"
    attention = theirs.config._attn_implementation
    return [
        Row(
            f"features of {count * seconds:g} s of audio by {model}, batch {count} x {seconds:g} s, float32",
            f"transformers, {attention} attention",
            *times.values(),
            goal=1.5,
            note=f"all hidden states, on the host; the two differ by {max(errors):.0e} at most. The goal is for 1 h of "
            "audio, which repeats this batch",
        )
    ]
