"""An upstream of S3PRL, from a list of waves to hidden states. `jepa-speech export s3prl` copies this file.

It needs torch and transformers, and the folder `model` beside it.
"""

from pathlib import Path

from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

SAMPLE_RATE, HOP = 16_000, 320


class UpstreamExpert(nn.Module):
    """ckpt: a folder written by `jepa-speech export hf`, by default `model` beside this file."""

    def __init__(self, ckpt=None, model_config=None, **kwargs):
        super().__init__()
        folder = ckpt or Path(__file__).with_name("model")
        remote = AutoConfig.from_pretrained(folder, trust_remote_code=True).model_type == "jepa_speech"
        self.extractor = AutoFeatureExtractor.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, trust_remote_code=remote)
        # If padding changes the layers, each wave is run alone: slower, but independent of the others in the batch.
        self.together = self.extractor.return_attention_mask and self.model.config.model_type != "data2vec-audio"

    def get_downsample_rates(self, key):
        """Returns the samples from one frame to the next, for any key."""
        return HOP

    def forward(self, wavs):
        """Returns a dict with `hidden_states`: [(B, T, D), ...], the first block's input, then each block's output.

        wavs: tensors (S,) at 16 kHz, of at least 400 samples. A row has floor((S - 400) / 320) + 1 frames; shorter rows
        are padded.
        """
        groups = [wavs] if self.together else [[wav] for wav in wavs]
        parts = [self.layers(group) for group in groups]
        layers = parts[0]
        if len(parts) > 1:
            layers = [pad_sequence([x[0] for x in rows], batch_first=True) for rows in zip(*parts, strict=True)]
        named = {f"hidden_state_{i}": x for i, x in enumerate(layers)}
        return {"hidden_states": layers, "last_hidden_state": layers[-1], **named}

    def layers(self, wavs):
        """Returns the layers [(B, T, D)] of a padded batch."""
        waves = [wav.detach().cpu().numpy() for wav in wavs]
        inputs = self.extractor(waves, sampling_rate=SAMPLE_RATE, padding=len(waves) > 1, return_tensors="pt")
        out = self.model(**inputs.to(wavs[0].device), output_hidden_states=True)
        return [*out.hidden_states[:-1], out.last_hidden_state]
