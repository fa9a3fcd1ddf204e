"""jepa_speech's own encoder in plain torch, for `AutoModel.from_pretrained(DIR, trust_remote_code=True)`.

`jepa-speech export hf` copies this file beside the weights. It needs only torch and transformers.
Shapes: B batch, S samples, T frames, D width, H heads. Frame t covers the samples [320 t, 320 t + 400) of 16 kHz.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

CONVOLUTIONS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))  # kernel and stride
HOP, WINDOW, MELS = 320, 400, 80
LOG_MEL_DEVIATION = 3.77
EPSILON = 1e-6  # of layer norms


class JepaSpeechConfig(PretrainedConfig):
    """block_type: `transformer` or `conformer`. frontend: `conv`, with conv_channels, or `logmel`.
    kernel_size: frames of the depthwise convolutions. masked_embedding: whether masked frames have an embedding.
    """

    model_type = "jepa_speech"

    def __init__(
        self,
        block_type="conformer",
        frontend="conv",
        conv_channels=512,
        hidden_size=512,
        num_hidden_layers=4,
        num_attention_heads=8,
        intermediate_size=2048,
        kernel_size=31,
        hidden_dropout=0.1,
        masked_embedding=True,
        **kwargs,
    ):
        self.block_type, self.frontend, self.conv_channels = block_type, frontend, conv_channels
        self.hidden_size, self.num_hidden_layers = hidden_size, num_hidden_layers
        self.num_attention_heads, self.intermediate_size = num_attention_heads, intermediate_size
        self.kernel_size, self.hidden_dropout, self.masked_embedding = kernel_size, hidden_dropout, masked_embedding
        super().__init__(**kwargs)


def frames(samples):
    """Returns the number of whole frames in `samples` samples, at least 400."""
    return (samples - WINDOW) // HOP + 1


def standardise(wave, inside):
    """Returns waves of mean 0 and root mean square 1 over the samples inside, silence elsewhere; all (B, S)."""
    count = inside.sum(1, keepdim=True)
    wave = torch.where(inside, wave - (wave * inside).sum(1, keepdim=True) / count, 0.0)
    power = wave.square().sum(1, keepdim=True) / count
    return wave / torch.where(power > 1e-12, power.sqrt(), 1.0)


class ConvFrontend(nn.Module):
    """wav2vec 2.0's convolutions with layer norm over channels after each."""

    def __init__(self, channels):
        super().__init__()
        inputs = [1] + [channels] * (len(CONVOLUTIONS) - 1)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(size, channels, kernel, stride)
            for size, (kernel, stride) in zip(inputs, CONVOLUTIONS, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels, EPSILON) for _ in CONVOLUTIONS)
        self.final_norm = nn.LayerNorm(channels, EPSILON)

    def forward(self, wave, visible):
        """(B, S) -> (B, T, channels)"""
        x = wave[:, None]  # (B, 1, S)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.gelu(norm(convolution(x).transpose(1, 2))).transpose(1, 2)
        return self.final_norm(x.transpose(1, 2))


class LogMelFrontend(nn.Module):
    """Log-mel frames less their mean over visible frames. Window and filters come with the weights."""

    def __init__(self):
        super().__init__()
        self.register_buffer("hann", torch.zeros(WINDOW))
        self.register_buffer("mel", torch.zeros(WINDOW // 2 + 1, MELS))

    def forward(self, wave, visible):
        """(B, S), (B, T) -> (B, T, 80)"""
        count = frames(wave.shape[1])
        head = wave[:, : count * HOP].reshape(-1, count, HOP)
        tail = F.pad(wave, (0, HOP))[:, HOP : (count + 1) * HOP].reshape(-1, count, HOP)
        windows = torch.cat([head, tail[..., : WINDOW - HOP]], -1)  # (B, T, 400)
        x = torch.log(self.power(windows * self.hann) @ self.mel + 1e-6)
        weight = visible[..., None].to(x.dtype)
        mean = (x * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)
        return (x - mean) / LOG_MEL_DEVIATION

    def power(self, windows):
        """(B, T, 400) -> (B, T, 201)"""
        return torch.view_as_real(torch.fft.rfft(windows)).square().sum(-1)


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x, bias, cos, sin):
        """x (B, T, D), bias (B, 1, 1, T) added to logits, cos and sin (T, D/2H) -> (B, T, D)"""
        rows, count, width = x.shape
        qkv = self.qkv(x).reshape(rows, count, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, H, T, D/H)
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.out(mixed.transpose(1, 2).reshape(rows, count, width))


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class FeedForward(nn.Module):
    def __init__(self, width, hidden, rate, activation):
        super().__init__()
        self.up, self.down, self.dropout = nn.Linear(width, hidden), nn.Linear(hidden, width), nn.Dropout(rate)
        self.activation = activation

    def forward(self, x):
        return self.down(self.dropout(self.activation(self.up(x))))


class ConvModule(nn.Module):
    """Gate, depthwise convolution over time, layer norm, SiLU, linear."""

    def __init__(self, width, kernel):
        super().__init__()
        self.gate, self.out = nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.taps, self.norm = nn.Parameter(torch.zeros(kernel, width)), nn.LayerNorm(width, EPSILON)

    def forward(self, x, inside):
        """x (B, T, D), inside (B, T)"""
        kernel, width = self.taps.shape
        x = F.glu(self.gate(x)) * inside[..., None]  # padding is silence to the taps
        x = F.pad(x.transpose(1, 2), (kernel // 2, kernel - 1 - kernel // 2))
        x = F.conv1d(x, self.taps.T[:, None], groups=width).transpose(1, 2)
        return self.out(F.silu(self.norm(x)))


class TransformerBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, rate = config.hidden_size, config.hidden_dropout
        self.attention_norm, self.ff_norm = nn.LayerNorm(width, EPSILON), nn.LayerNorm(width, EPSILON)
        self.attention = Attention(width, config.num_attention_heads)
        self.ff = FeedForward(width, config.intermediate_size, rate, nn.GELU("tanh"))
        self.dropout = nn.Dropout(rate)

    def forward(self, x, inside, *positions):
        x = x + self.dropout(self.attention(self.attention_norm(x), *positions))
        return x + self.dropout(self.ff(self.ff_norm(x)))


class ConformerBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, rate = config.hidden_size, config.hidden_dropout
        self.norms = nn.ModuleList(nn.LayerNorm(width, EPSILON) for _ in range(5))
        self.ff1 = FeedForward(width, config.intermediate_size, rate, nn.SiLU())
        self.attention = Attention(width, config.num_attention_heads)
        self.convolution = ConvModule(width, config.kernel_size)
        self.ff2 = FeedForward(width, config.intermediate_size, rate, nn.SiLU())
        self.dropout = nn.Dropout(rate)

    def forward(self, x, inside, *positions):
        x = x + 0.5 * self.dropout(self.ff1(self.norms[0](x)))
        x = x + self.dropout(self.attention(self.norms[1](x), *positions))
        x = x + self.dropout(self.convolution(self.norms[2](x), inside))
        return self.norms[4](x + 0.5 * self.dropout(self.ff2(self.norms[3](x))))


class JepaSpeechModel(PreTrainedModel):
    """Waves of any level to 50 frames a second. Padding, on the right and in the mask, changes nothing."""

    config_class = JepaSpeechConfig
    base_model_prefix = "jepa_speech"
    main_input_name = "input_values"
    standardise = staticmethod(standardise)

    def __init__(self, config):
        super().__init__(config)
        width, conv = config.hidden_size, config.frontend == "conv"
        self.frontend = ConvFrontend(config.conv_channels) if conv else LogMelFrontend()
        self.projection = nn.Linear(config.conv_channels if conv else MELS, width)
        self.mask_embedding = nn.Parameter(torch.zeros(width)) if config.masked_embedding else None
        transformer = config.block_type == "transformer"
        self.local = ConvModule(width, config.kernel_size) if transformer else None
        block = TransformerBlock if transformer else ConformerBlock
        self.blocks = nn.ModuleList(block(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(width, EPSILON)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.register_buffer("frequencies", torch.zeros(width // config.num_attention_heads // 2))  # of the rotation
        self.post_init()

    def forward(
        self, input_values, attention_mask=None, mask_time_indices=None, output_hidden_states=None, return_dict=None
    ):
        """input_values (B, S) at 16 kHz, attention_mask (B, S) 0 after a row's end, mask_time_indices (B, T) True
        at frames to mask -> last_hidden_state (B, T, D); hidden_states: the input of the first block, then each
        block's output, the last of them normalised.
        """
        config = self.config
        lengths = input_values.new_full(input_values.shape[:1], input_values.shape[1], dtype=torch.long)
        if attention_mask is not None:
            lengths = attention_mask.long().sum(1)
        wave = self.standardise(input_values, before(lengths, input_values.shape[1]))
        inside = before(frames(lengths), frames(wave.shape[1]))  # (B, T)
        visible = inside if mask_time_indices is None else inside & ~mask_time_indices
        x = self.dropout(self.projection(self.frontend(wave, visible)))  # (B, T, D)
        if mask_time_indices is not None:
            x = torch.where(mask_time_indices[..., None], self.mask_embedding, x)
        if self.local is not None:
            x = x + self.local(x, inside)
        never = torch.finfo(x.dtype).min
        bias = torch.zeros_like(inside[:, None, None], dtype=x.dtype).masked_fill(~inside[:, None, None], never)
        angle = torch.arange(x.shape[1], device=x.device)[:, None] * self.frequencies  # (T, D/2H)
        positions = bias, angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        layers = [x]
        for block in self.blocks:
            layers.append(block(layers[-1], inside, *positions))
        layers[-1] = self.norm(layers[-1])
        wanted = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        states = tuple(layers) if wanted else None
        if return_dict is False:
            return (layers[-1],) if states is None else (layers[-1], states)
        return BaseModelOutput(last_hidden_state=layers[-1], hidden_states=states)


class JepaSpeechForCTC(PreTrainedModel):
    """The encoder and a linear layer over characters: logits (B, T, classes)."""

    config_class = JepaSpeechConfig
    base_model_prefix = "jepa_speech"
    main_input_name = "input_values"

    def __init__(self, config):
        super().__init__(config)
        self.jepa_speech = JepaSpeechModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def forward(self, input_values, attention_mask=None, output_hidden_states=None):
        """As `JepaSpeechModel.forward`; for a loss, pass the logits to torch's ctc_loss."""
        encoded = self.jepa_speech(input_values, attention_mask, output_hidden_states=output_hidden_states)
        return CausalLMOutput(logits=self.lm_head(encoded.last_hidden_state), hidden_states=encoded.hidden_states)


def before(lengths, size):
    """True up to each row's end: lengths (B,) -> (B, size)."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]
