"""AdamW with warm-up; the learning rate is a function of the step, never of Python state."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jepa_speech.settings.training import OptimConfig


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
