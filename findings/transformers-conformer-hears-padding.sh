#!/usr/bin/env bash
# transformers 5.24.0 with torch 2.13.0: padded batches with an attention mask, for speech encoders that have more
# convolutions than those of their front-end.
#
# One would guess that with attention_mask, and a front-end without norms over time (feat_extract_norm="layer"), a
# recording in a padded batch gets the same layers as alone. It does for Wav2Vec2, HuBERT, WavLM and Wav2Vec2-BERT.
#
# Seen, with random weights, in outputs of variance 1:
# - Wav2Vec2-Conformer's last layer differs by more than 1 near the end of the recording, and by more than 0.1 in its
#   first half. The convolution of each block is not masked, and from the first norm on the padding is not zero.
# - Data2Vec-Audio's differs likewise: only the first of its stacked positional convolutions sees zeros in the padding.
#   This was reported as issue 25621 of transformers, which is closed.
# Nothing warns: all of them accept the attention mask.
#
# What to do: encode recordings of these models one by one, or mask before each convolution, as jepa_speech does
# (docs/import.md, "Wav2Vec2-Conformer").
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0 torch==2.13.0 numpy==2.4.6

cat >"$work/padding.py" <<'PY'
import torch
import transformers as t

assert t.__version__ == "5.24.0", t.__version__
SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
WAVES = SIZE | {"conv_dim": (16,) * 7, "feat_extract_norm": "layer"}
POSITIONS = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}


def differences(config, batch, valid):
    """How far the last layer of a padded row is from that of the row alone: at most, and in its first half."""
    torch.manual_seed(0)
    model = t.AutoModel.from_config(config).eval()
    mask = torch.zeros(batch.shape[:2], dtype=torch.long)
    mask[0], mask[1, :valid] = 1, 1
    with torch.no_grad():
        alone = model(batch[1:, :valid], attention_mask=mask[1:, :valid]).last_hidden_state[0]
        padded = model(batch, attention_mask=mask).last_hidden_state[1, : len(alone)]
    frames = (padded - alone).abs().amax(dim=1)
    found = frames.max().item(), frames[: len(frames) // 2].max().item()
    print(f"{config.model_type}: {found[0]:.2g}, in the first half {found[1]:.2g}")
    return found


torch.manual_seed(1)
wave, bank = torch.randn(2, 16_000), torch.randn(2, 100, 160)
wave[1, 8_000:], bank[1, 50:] = 0, 0
for config in (t.Wav2Vec2Config, t.HubertConfig, t.WavLMConfig):
    assert differences(config(**WAVES, **POSITIONS), wave, 8_000)[0] < 1e-4
for kind in ("rotary", "relative"):
    conformer = differences(t.Wav2Vec2ConformerConfig(**WAVES, position_embeddings_type=kind), wave, 8_000)
    assert conformer[0] > 1 and conformer[1] > 0.1
data2vec = differences(t.Data2VecAudioConfig(**WAVES, num_conv_pos_embeddings=5), wave, 8_000)
assert data2vec[0] > 1 and data2vec[1] > 0.1
assert differences(t.Wav2Vec2BertConfig(**SIZE, feature_projection_input_dim=160), bank, 50)[0] < 1e-4
print("seen: with an attention mask, padding changes the layers of Wav2Vec2-Conformer and of Data2Vec-Audio")
PY
cd "$work"
"$work/venv/bin/python" -W ignore padding.py
