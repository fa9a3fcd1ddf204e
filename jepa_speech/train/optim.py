"""AdamW with warm-up; the learning rate is a function of the step, never of Python state."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from jepa_speech.errors import UsageError


@dataclass(frozen=True)
class OptimConfig:
    """Config section `optim`: AdamW, and its learning rate over the steps."""

    learning_rate: float = 5e-4  # the peak [fairseq: lr]
    warmup_steps: int = 4000  # linear from 0 [fairseq: warmup_updates, warmup_steps]
    hold_steps: int = 0  # at the peak, before the schedule sets in [fairseq: hold_steps]
    # from the peak to 0 at train.steps; `exponential`: to 1% of it; `inverse_sqrt`: peak * sqrt(warm-up / step)
    # [fairseq: lr_scheduler]
    schedule: Literal["constant", "linear", "cosine", "exponential", "inverse_sqrt"] = "cosine"
    betas: tuple[float, float] = (0.9, 0.98)  # of Adam [fairseq: adam_betas]
    epsilon: float = 1e-6  # of Adam [fairseq: adam_eps]
    weight_decay: float = 0.01  # not on biases, gains and other vectors [fairseq: weight_decay]
    clip: float = 1.0  # largest global gradient norm; 0: no clipping [fairseq: clip_norm]

    def __post_init__(self) -> None:
        if min(self.learning_rate, self.warmup_steps, self.hold_steps, self.clip) < 0:
            raise UsageError("config keys optim.learning_rate, warmup_steps, hold_steps, clip: not below 0")


def make_optimizer(config: OptimConfig) -> optax.GradientTransformation:
    """AdamW's update at learning rate 1, before the sign is turned: the step scales it by -learning_rate."""
    b1, b2 = config.betas
    return optax.chain(
        optax.clip_by_global_norm(config.clip) if config.clip else optax.identity(),
        optax.scale_by_adam(b1, b2, eps=config.epsilon),
        optax.add_decayed_weights(config.weight_decay, mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params)),
    )


def learning_rate(config: OptimConfig, steps: int) -> Callable[[jax.Array], jax.Array]:
    """step (0, 1, ...) -> learning rate. The first step of a warm-up already moves."""

    def at(step: jax.Array) -> jax.Array:
        warmup = jnp.minimum(1.0, (step + 1) / max(1, config.warmup_steps))
        start = config.warmup_steps + config.hold_steps
        progress = jnp.clip((step - start) / max(1, steps - start), 0.0, 1.0)
        decay = {
            "constant": jnp.ones_like(progress),
            "linear": 1.0 - progress,
            "cosine": 0.5 * (1.0 + jnp.cos(jnp.pi * progress)),
            "exponential": 0.01**progress,
            "inverse_sqrt": jnp.sqrt(max(1, start) / jnp.maximum(step + 1, max(1, start))),
        }[config.schedule]
        return (config.learning_rate * warmup * decay).astype(jnp.float32)

    return at
