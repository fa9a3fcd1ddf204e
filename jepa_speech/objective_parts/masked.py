"""What all masked objectives share: the views of a batch, the encoder on the masked view, defaults of the contract."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jepa_speech.augment.mixing import MixingConfig, student_view
from jepa_speech.errors import UsageError
from jepa_speech.nn.build_encoder import build_encoder, encoder_input
from jepa_speech.nn.masks import MaskConfig, span_masks
from jepa_speech.nn.module import Encoded, PureEncoder
from jepa_speech.nn.packing import repeated
from jepa_speech.nn.row_random import fold, row_keys, valid
from jepa_speech.objective_parts.collapse import effective_rank
from jepa_speech.objective_parts.contract import Batch, Objective, Term, Tree
from jepa_speech.settings.run_config import RunConfig

MIX, MASK, ENCODER, *OWN = range(8)  # one use of a row's key each; an objective's own uses are OWN[0], OWN[1], ...


class View(NamedTuple):
    """A batch as a masked objective sees it. Filler rows weigh nothing. N = B, or M B if it draws M masks for a row."""

    keys: jax.Array  # (N,) of the masks
    clean: jax.Array  # (B, S) at level 1
    unmixed: jax.Array  # (B, S) clean, at the encoder's level
    mixed: jax.Array  # (B, S) input of the student: the clean wave, or with another recording added
    lengths: jax.Array  # (B,) samples
    frame_lengths: jax.Array  # (B,)
    mask: jax.Array  # (N, T) bool, True where masked
    masked: jax.Array  # (N, T) 1 at masked frames
    visible: jax.Array  # (N, T) 1 at the other valid frames


@dataclass(frozen=True)
class MaskedObjective(Objective):
    mask: MaskConfig
    mixing: MixingConfig
    steps: int
    encoder: PureEncoder

    batch_statistics = False

    @property
    def batch_fields(self) -> frozenset[str]:
        return frozenset({"mix"} if self.mixing.active else ())

    @property
    def frame_rate(self) -> float:
        return self.encoder.frame_rate

    @property
    def min_samples(self) -> int:
        return self.encoder.min_samples

    def check(self, shortest: int, longest: int) -> None:
        """Raises UsageError if a clip of `shortest` samples is too short for a span of the mask."""
        frames = int(self.encoder.frames(shortest))
        if self.mask.span[0] >= frames:
            raise UsageError(
                f"config key mask.span = {self.mask.span}: a clip of {frames} frames is too short, because some "
                "must stay visible; lower mask.span, or raise data.buckets"
            )

    def view(self, batch: Batch, key: jax.Array) -> View:
        keys = row_keys(key, batch["record_id"], batch["epoch"])
        lengths, clean = batch["lengths"], batch["audio"] / batch["level"][:, None]  # (B, S)
        frame_lengths, size = self.encoder.frames(lengths), self.encoder.frames(clean.shape[1])
        mask_keys = self.mask_keys(keys)  # (N,)
        inside, weight = (repeated(x, len(mask_keys)) for x in (valid(frame_lengths, size), batch["weight"][:, None]))
        mask = self.draw_mask(fold(mask_keys, MASK), inside.sum(1), size)  # (N, T)
        visible = inside & ~mask
        mixed = self.mix(batch, clean, fold(keys, MIX))
        unmixed, mixed = (self.at_level(batch, wave) for wave in (clean, mixed))
        return View(mask_keys, clean, unmixed, mixed, lengths, frame_lengths, mask, mask * weight, visible * weight)

    def mask_keys(self, keys: jax.Array) -> jax.Array:
        """Keys (B,) of the rows -> those of their masks (N,): one mask for each row."""
        return keys

    def mix(self, batch: Batch, clean: jax.Array, keys: jax.Array) -> jax.Array:
        """Returns the input of the student: the clean wave, with another voice or noise added if so configured."""
        if not self.mixing.active:
            return clean
        other = batch["mix"] / batch["mix_level"][:, None]
        return student_view(keys, clean, batch["lengths"], other, batch["mix_lengths"], self.mixing)

    def at_level(self, batch: Batch, wave: jax.Array) -> jax.Array:
        """Waves (B, S) of a batch, at level 1 -> as the encoder takes them."""
        return wave * batch["level"][:, None] if self.encoder.own_level else wave

    def draw_mask(self, keys: jax.Array, frame_lengths: jax.Array, size: int) -> jax.Array:
        """Returns the frames to predict, (B, T) True where masked."""
        return span_masks(keys, frame_lengths, size, self.mask)

    def encode(
        self, params: Tree, wave: jax.Array, lengths: jax.Array, mask: jax.Array | None, keys: jax.Array | None
    ) -> Encoded:
        """The student's output. With `pre_context`, masked frames do not reach it. keys (B,): None without dropout."""
        before = mask if self.mask.site == "pre_context" else None
        return self.encoder.apply(params["encoder"], wave, lengths, before, keys)

    def eval_loss(
        self, params: Tree, aux_state: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        return self.loss(params, aux_state, batch, key, step)

    def update_aux_state(self, aux_state: Tree, params: Tree, stats: Tree, step: jax.Array) -> Tree:
        return aux_state

    def rates(self, step: jax.Array) -> dict[str, Any]:
        return {}

    def report(self, stats: Tree) -> dict[str, jax.Array]:
        return {"effective_rank": effective_rank(stats["context"])}

    def represent(
        self, params: Tree, aux_state: Tree, wave: jax.Array, lengths: jax.Array
    ) -> tuple[list[jax.Array], jax.Array]:
        encoded = self.encoder.apply(params["encoder"], encoder_input(self.encoder, wave, lengths), lengths)
        return encoded.layers, encoded.frame_lengths


def masked_parts(config: RunConfig) -> dict[str, Any]:
    """The fields of MaskedObjective."""
    return {
        "mask": config.mask,
        "mixing": config.mixing,
        "steps": config.train.steps,
        "encoder": build_encoder(config.encoder, config.mask),
    }


def check_masked_before_encoder(config: RunConfig) -> None:
    """Raises UsageError if frames are masked after the encoder, which would then see what it has to predict."""
    if config.mask.site != "pre_context":
        raise UsageError(
            f"config key mask.site = {config.mask.site}: objective.name = {config.objective.name} needs pre_context"
        )


def linear_schedule(start: float, end: float, steps: int, step: jax.Array) -> jax.Array:
    """Linear from `start` at step 0 to `end` at `steps`, constant after."""
    return start + (end - start) * jnp.clip(step / steps, 0, 1)
