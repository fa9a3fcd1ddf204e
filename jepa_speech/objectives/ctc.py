"""Fine-tuning with CTC, as of wav2vec 2.0 (arXiv 2006.11477, sections 3.3 and 4.3): one linear layer on the encoder.

    L = mean over utterances of −log p(text | frames)                                                   (nn/ctc.py)

The mean is over utterances, as in the released code (`sentence_avg`), not over characters. An utterance whose text does
not fit its frames has weight 0; `infeasible` is the share of such utterances.

Training masks spans of frames, and spans of channels in all frames: SpecAugment on the output of the projection. On
held-out recordings nothing is masked, and the character error rate of greedy decoding (`cer`) is computed, too.

With `adapter_layers`, as in the usual fine-tuning of w2v-BERT 2.0, layers that reduce the frame rate are
between the encoder and the linear layer (nn/conformer_adapter.py). They learn from the first step, as the linear layer
does.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jepa_speech.config import DEEPEST, of_kind
from jepa_speech.errors import UsageError
from jepa_speech.nn.build_encoder import encoder_input
from jepa_speech.nn.conformer_adapter import Activation, adapter_of
from jepa_speech.nn.conformer_encoders import Wav2Vec2BertConfig
from jepa_speech.nn.ctc import best_path, ctc_loss, edit_distance
from jepa_speech.nn.linear import Linear
from jepa_speech.nn.masks import MaskConfig, span_masks
from jepa_speech.nn.module import Pure
from jepa_speech.nn.row_random import fold, valid
from jepa_speech.objective_parts.contract import Batch, Term, Tree
from jepa_speech.objective_parts.masked import ENCODER, OWN, MaskedObjective, masked_parts
from jepa_speech.objective_parts.terms import mean_term
from jepa_speech.settings.run_config import RunConfig
from jepa_speech.text.tokens import Tokens

CHANNELS, ADAPTER = OWN[:2]
SLOWEST = 100  # most encoder frames for one frame of the adapter: 2 s


@dataclass(frozen=True)
class CtcConfig:
    """Config section `objective`, name `ctc`. A config section `vocabulary` takes the place of `characters`."""

    name: str = "ctc"  # chooses this objective
    characters: str = ""  # characters that can be written; empty: all of the training store's texts
    freeze_steps: int = 10_000  # steps in which only the new layer learns [fairseq: freeze_finetune_updates]
    # whether the front-end, its normalisation included, never learns [fairseq: feature_grad_mult = 0]
    freeze_frontend: bool = True
    # about channel_probability * width / channel_span spans of channels are masked [fairseq: mask_channel_prob]
    channel_probability: float = 0.25
    channel_span: int = 64  # channels of a masked span [fairseq: mask_channel_length]
    # of encoder.name = wav2vec2_bert: layers between the encoder and the linear layer that make fewer frames; 0: none
    # [transformers: num_adapter_layers, with add_adapter]
    adapter_layers: int = 0
    adapter_kernel: int = 3  # frames of the adapter's convolutions [transformers: adapter_kernel_size]
    adapter_stride: int = 2  # frames that one layer makes one of [transformers: adapter_stride]
    adapter_activation: Activation = "relu"  # of its feed-forwards [transformers: adapter_act]

    @property
    def adapter(self) -> tuple[int, int, int, Activation] | None:
        """Layers, kernel, stride and activation; None without an adapter."""
        if not self.adapter_layers:
            return None
        return self.adapter_layers, self.adapter_kernel, self.adapter_stride, self.adapter_activation


@dataclass(frozen=True)
class Ctc(MaskedObjective):
    config: CtcConfig
    head: Pure
    adapter: Pure | None
    vocabulary: Tokens

    @property
    def emission_rate(self) -> float:
        """Frames a second of `emissions`."""
        return self.frame_rate / self.config.adapter_stride**self.config.adapter_layers

    @property
    def batch_fields(self) -> frozenset[str]:
        return super().batch_fields | {"text"}

    def check(self, shortest: int, longest: int) -> None:
        """Accepts clips of any length: masking is only an augmentation, so no frame has to stay visible."""

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        encoder, head = jax.random.split(key)
        params = {"encoder": self.encoder.init(encoder), "head": self.head.init(head)}
        if self.adapter is not None:
            params["adapter"] = self.adapter.init(jax.random.fold_in(key, ADAPTER))
        return params, {}

    def loss(
        self, params: Tree, aux_state: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        view = self.view(batch, key)
        channels = self.draw_channel_mask(fold(view.keys, CHANNELS))
        keys = fold(view.keys, ENCODER)
        encoder = self.without_frontend(params["encoder"])
        z = self.encoder.apply(encoder, view.mixed, view.lengths, view.mask, keys, channels).z
        moving = self.moving(step).astype(z.dtype)
        z = moving * z + (1 - moving) * jax.lax.stop_gradient(z)
        return self.terms(*self.logits(params, z, view.frame_lengths, fold(view.keys, ADAPTER)), batch), {}

    def eval_loss(
        self, params: Tree, aux_state: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        clean, lengths = batch["audio"] / batch["level"][:, None], batch["lengths"]
        encoded = self.encoder.apply(params["encoder"], self.at_level(batch, clean), lengths)
        logits, frame_lengths = self.logits(params, encoded.z, encoded.frame_lengths)
        terms = self.terms(logits, frame_lengths, batch)
        found = best_path(logits, frame_lengths, self.vocabulary.blank)
        errors = edit_distance(*found, batch["text_ids"], batch["text_lengths"])
        weight = batch["weight"]
        return terms | {"cer": Term((errors * weight).sum(), (batch["text_lengths"] * weight).sum(), 0.0)}, {}

    def logits(
        self, params: Tree, z: jax.Array, frame_lengths: jax.Array, keys: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """The encoder's output z (B, T, D), frame_lengths (B,), keys (B,) of the adapter's dropout or None -> logits
        (B, T', V) and their lengths; T' is T without an adapter.
        """
        if self.adapter is not None:
            z, frame_lengths = self.adapter.apply(params["adapter"], z, frame_lengths, keys)
        return self.head.apply(params["head"], z), frame_lengths

    def terms(self, logits: jax.Array, frame_lengths: jax.Array, batch: Batch) -> dict[str, Term]:
        """logits (B, T, V) -> the loss, the share of infeasible utterances, and that of blanks in greedy decoding."""
        blank = self.vocabulary.blank
        nats, feasible = ctc_loss(logits, frame_lengths, batch["text_ids"], batch["text_lengths"], blank)
        whole, inside = batch["weight"], valid(frame_lengths, logits.shape[1]) * batch["weight"][:, None]
        weight = whole * feasible
        return {
            "ctc": mean_term(nats, weight, 1.0),
            "infeasible": Term((whole - weight).sum(), whole.sum(), 0.0),
            "blank": mean_term(logits.argmax(-1) == blank, inside),
        }

    def draw_channel_mask(self, keys: jax.Array) -> jax.Array | None:
        """(B, D) True where masked."""
        span, width = self.config.channel_span, self.encoder.width
        if not self.config.channel_probability:
            return None
        spans = MaskConfig(policy="spans", span=(span, span), probability=self.config.channel_probability, min_spans=1)
        return span_masks(keys, jnp.full(len(keys), width), width, spans)

    def without_frontend(self, encoder: Tree) -> Tree:
        """Returns the encoder's parameters, without a gradient for the front-end if it is frozen."""
        if not self.config.freeze_frontend or "frontend" not in encoder:
            return encoder
        return encoder | {"frontend": jax.lax.stop_gradient(encoder["frontend"])}

    def moving(self, step: jax.Array) -> jax.Array:
        """1 once the encoder learns, 0 before."""
        return jnp.asarray(step >= self.config.freeze_steps, jnp.float32)

    def rates(self, step: jax.Array) -> dict[str, Any]:
        frontend = {"encoder/frontend": 0.0} if self.config.freeze_frontend else {}
        return {"encoder": self.moving(step)} | frontend

    def report(self, stats: Tree) -> dict[str, jax.Array]:
        return {}

    def emissions(
        self, params: Tree, aux_state: Tree, wave: jax.Array, lengths: jax.Array
    ) -> tuple[list[jax.Array], jax.Array]:
        """Waves (B, S) of any level, lengths (B,) -> [log p (B, T, V)] of the classes of `vocabulary`, (B,)."""
        encoded = self.encoder.apply(params["encoder"], encoder_input(self.encoder, wave, lengths), lengths)
        logits, frame_lengths = self.logits(params, encoded.z, encoded.frame_lengths)
        return [jax.nn.log_softmax(logits.astype(jnp.float32))], frame_lengths


SECTIONS = {"objective": CtcConfig}


def build(config: RunConfig, anchor: None = None) -> Ctc:
    """From the whole config; raises UsageError for masks that do not fit."""
    objective, parts = of_kind(config.objective, CtcConfig), masked_parts(config)
    width = parts["encoder"].width
    if parts["mask"].site != "pre_context":
        raise UsageError(f"config key mask.site = {parts['mask'].site}: CTC has no predictor, set pre_context")
    if not 0 <= objective.channel_probability < 1 or not 1 <= objective.channel_span < width:
        raise UsageError(
            f"config keys objective.channel_probability = {objective.channel_probability}, channel_span = "
            f"{objective.channel_span}: expected one in [0, 1), and 1 to {width - 1} (encoder.width is {width})"
        )
    vocabulary = vocabulary_of(config)
    head = Pure(lambda rngs: Linear(width, len(vocabulary), rngs=rngs))
    return Ctc(
        **parts, config=objective, head=head, adapter=build_adapter(objective, config.encoder), vocabulary=vocabulary
    )


def build_adapter(keys: CtcConfig, encoder: Any) -> Pure | None:
    """The adapter behind an encoder, a typed config section; None without one. Raises UsageError if it does not fit."""
    layers, kernel, stride = keys.adapter_layers, keys.adapter_kernel, keys.adapter_stride
    if not 0 <= layers <= DEEPEST:
        raise UsageError(f"config key objective.adapter_layers = {layers}: expected 0 to {DEEPEST:,}")
    if keys.adapter is None:
        return None
    if not isinstance(encoder, Wav2Vec2BertConfig):
        raise UsageError(
            f"config key objective.adapter_layers = {layers}: encoder.name = {encoder.name} has no adapter, set it to 0"
        )
    # Otherwise the convolutions of transformers' adapter make another number of frames than it counts.
    if not 1 <= stride <= SLOWEST or kernel < 1 or kernel // 2 != stride // 2:
        raise UsageError(
            f"config keys objective.adapter_kernel = {kernel}, adapter_stride = {stride}: expected a stride of 1 to "
            f"{SLOWEST}, and a kernel whose half, rounded down, is that of the stride"
        )
    if stride**layers > SLOWEST:
        raise UsageError(
            f"config keys objective.adapter_layers = {layers}, adapter_stride = {stride}: one frame would cover "
            f"{stride}^{layers} of the encoder; at most {SLOWEST}"
        )
    return adapter_of(encoder.block_sizes(), *keys.adapter)


def vocabulary_of(config: RunConfig) -> Tokens:
    """The tokens of the CTC layer of a run; raises UsageError if the blank is none of them."""
    tokens = config.vocabulary
    if tokens is None:
        return Tokens.of(of_kind(config.objective, CtcConfig).characters)
    if not tokens.blank_token or tokens.blank_token not in tokens.tokens:
        raise UsageError(
            f"config key vocabulary.blank_token = {tokens.blank_token!r}: expected one of vocabulary.tokens"
        )
    return tokens
