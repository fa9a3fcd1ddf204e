"""data2vec 2.0 (arXiv 2212.07525): data2vec that encodes only visible frames, with M masks for one pass of the teacher.

    L = mean over M masks and masked frames of ‖d(z)_t − y_t‖² / √D,   y_t = 1/K Σ_l IN(ff^l_t)     (section 3.1, 3.2)

z: the encoder's output at visible frames, and N(0, 0.01²) draws at masked ones. d: a decoder of convolutions over all
frames. y: the targets of data2vec, from the whole recording. The teacher averages all of the encoder except front-end
and projection, which are the student's (no gradient passes).

What is encoded. Front-end and projection run once for a row. For each of its M masks, masked frames are filled
(`mask.fill`, zeros as published), the convolution over time that gives positions runs over all frames, and then the
visible frames are gathered in order and go through the blocks alone (nn/packing.py). Positions in the blocks are those
of the frames in the recording: rotary in our own transformer, ALiBi in the published encoder. So each visible frame has
the output that it has in the whole row with masked keys removed, and without a mask it is that of `represent`.

Shapes are static. The policy `centres` (or `exact`) masks a known number of frames of each row, so a crop of T frames
needs T − floor(ratio · T) places. A shorter row needs fewer; attention reads no place beyond them.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jepa_speech.config import DEEPEST, check_sizes, of_kind
from jepa_speech.errors import UsageError
from jepa_speech.nn.conv_decoder import ConvDecoder
from jepa_speech.nn.masks import most_visible
from jepa_speech.nn.module import Encoded, Pure
from jepa_speech.nn.packing import repeated
from jepa_speech.nn.row_random import dropout, fold
from jepa_speech.objective_parts.collapse import masked_moments, spread_over_time, variance_over_time
from jepa_speech.objective_parts.contract import Batch, Term, Tree
from jepa_speech.objective_parts.masked import ENCODER, OWN, View, check_masked_before_encoder, masked_parts
from jepa_speech.objective_parts.self_distilled import (
    SelfDistilled,
    TeacherConfig,
    check_top_blocks,
    regression,
    variance_figures,
)
from jepa_speech.settings.run_config import RunConfig

MASKS, NOISE, DECODER, *_ = OWN
SHARED = ("frontend", "projection", "mask_embedding")  # parts of the encoder of which the teacher has no average


@dataclass(frozen=True)
class Data2Vec2Config(TeacherConfig):
    """Config section `objective`, name `data2vec2`."""

    name: str = "data2vec2"  # chooses this objective
    ema_end: float = 0.99999  # decay of the teacher from step `ema_steps`, reached linearly [fairseq: ema_end_decay]
    ema_steps: int = 75_000  # steps from `ema_start` to `ema_end` [fairseq: ema_anneal_end_step]
    masks: int = 8  # masks of each row, for one pass of the teacher [fairseq: clone_batch; paper: M]
    noise: float = 0.01  # deviation of what the decoder reads at masked frames [fairseq: mask_noise_std]
    decoder_layers: int = 4  # convolutions of the decoder [fairseq: decoder.decoder_layers]
    decoder_width: int = 384  # their output channels [fairseq: decoder.decoder_dim]
    decoder_kernel: int = 7  # their frames [fairseq: decoder.decoder_kernel]
    decoder_groups: int = 16  # their groups [fairseq: decoder.decoder_groups]
    decoder_dropout: float = 0.1  # of the decoder's input at visible frames [fairseq: decoder.input_dropout]

    def __post_init__(self) -> None:
        check_sizes(self, "objective", ("masks", "decoder_width", "decoder_kernel", "decoder_groups"))
        check_sizes(self, "objective", ("decoder_layers",), DEEPEST)


@dataclass(frozen=True)
class Data2Vec2(SelfDistilled):
    config: Data2Vec2Config
    decoder: Pure

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        keys = jax.random.split(key)
        params = {"encoder": self.encoder.init(keys[0]), "decoder": self.decoder.init(keys[1])}
        return params, {"teacher": self.teacher(params)}

    def averaged(self, encoder: Tree) -> Tree:
        return {name: part for name, part in encoder.items() if name not in SHARED}

    def teacher_encoder(self, params: Tree, aux_state: Tree) -> Tree:
        return jax.lax.stop_gradient(params["encoder"]) | aux_state["teacher"]

    def mask_keys(self, keys: jax.Array) -> jax.Array:
        """Keys (B,) of the rows -> those of their masks (M B,), the masks of a row side by side."""
        own = fold(keys, MASKS)
        drawn = jnp.stack([fold(own, m) for m in range(self.config.masks)], 1)
        return drawn.reshape(-1, *keys.shape[1:])

    def encode(
        self, params: Tree, wave: jax.Array, lengths: jax.Array, mask: jax.Array | None, keys: jax.Array | None
    ) -> Encoded:
        """The student's output at visible frames, 0 at masked ones. mask (N, T) as drawn by `draw_mask`, or None."""
        size = None if mask is None else most_visible(mask.shape[1], self.mask)
        return self.encoder.apply(params["encoder"], wave, lengths, mask, keys, packed=size)

    def predict(self, params: Tree, z: jax.Array, view: View) -> jax.Array:
        """z (N, T, D) of `encode` -> predictions (N, T, D)."""
        draw = jax.vmap(lambda key: jax.random.normal(key, z.shape[1:]))(fold(view.keys, NOISE))
        x = dropout(z, self.config.decoder_dropout, fold(view.keys, DECODER))
        x = jnp.where(view.mask[..., None], self.config.noise * draw.astype(z.dtype), x)
        inside = view.masked + view.visible > 0
        return self.decoder.apply(params["decoder"], x, inside)

    def loss(
        self, params: Tree, aux_state: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        view = self.view(batch, key)
        encoded = self.encode(params, view.mixed, view.lengths, view.mask, fold(view.keys, ENCODER))
        target = repeated(self.target(params, aux_state, view), len(view.keys))
        term, stats = regression(self.predict(params, encoded.z, view), target, view.masked)
        return {"regression": term}, stats | {
            "context": masked_moments(encoded.z, view.visible),
            "frontend": spread_over_time(encoded.features, view.masked + view.visible),
        }

    def report(self, stats: Tree) -> dict[str, jax.Array]:
        return (
            super().report(stats)
            | variance_figures(stats)
            | {"frontend_variance": variance_over_time(stats["frontend"])}
        )


SECTIONS = {"objective": Data2Vec2Config}


def build(config: RunConfig, anchor: None = None) -> Data2Vec2:
    """From the whole config."""
    objective, parts = of_kind(config.objective, Data2Vec2Config), masked_parts(config)
    check_top_blocks(objective.top_blocks, config.encoder.blocks)
    width, groups = parts["encoder"].width, objective.decoder_groups
    if not parts["encoder"].packs:
        raise UsageError(
            f"objective.name = data2vec2 encodes only visible frames, which encoder.name = {config.encoder.name} does "
            "not allow: use transformer, or wav2vec2 with encoder.relative_bias = false"
        )
    check_masked_before_encoder(config)
    if width % groups or objective.decoder_width % groups:
        raise UsageError(
            f"config key objective.decoder_groups = {groups}: must divide encoder.width = {width} and "
            f"objective.decoder_width = {objective.decoder_width}"
        )
    hidden, kernel = [objective.decoder_width] * objective.decoder_layers, objective.decoder_kernel
    dtype = jnp.dtype(config.encoder.dtype)
    decoder = Pure(lambda rngs: ConvDecoder(width, hidden, kernel, groups, dtype, rngs))
    return Data2Vec2(**parts, config=objective, decoder=decoder)
