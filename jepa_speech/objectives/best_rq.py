"""BEST-RQ (arXiv 2202.01855): predict, at masked frames, the codes that a frozen random quantiser gives the input.

    L     = mean over masked frames and over books g of CE(y^g_t, softmax(B_g z_t))                 (section 3.2)
    y^g_t = argmin_v ‖c^g_v / ‖c^g_v‖ − A_g x_t / ‖A_g x_t‖‖                                        (eq. 1)

x_t: the log-mel frames (100 Hz) of the clean recording from the start of the encoder's frame t to that of the next,
side by side. Each band has mean 0 and deviation 1 over the recording's valid frames; without that, nearly all frames
get one code. A_g, c^g: drawn at the start, and never changed. Several books are those of USM (arXiv 2303.01037).

Masked log-mel frames are replaced by N(0, 0.1) noise (`mask.fill = noise`). The paper starts a span at each log-mel
frame with probability 0.01; here spans start at the encoder's frames, so that a frame is masked with its whole label
window. A frame whose label window would reach beyond the recording is not predicted.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jepa_speech.config import check_sizes, of_kind
from jepa_speech.features.grid import HOP, frames
from jepa_speech.features.spectral import DIMS
from jepa_speech.nn.frontends import dense_log_mel
from jepa_speech.nn.linear import Linear
from jepa_speech.nn.module import Pure
from jepa_speech.nn.random_projection import code_ids, random_projection
from jepa_speech.nn.row_random import fold, valid
from jepa_speech.objective_parts.collapse import code_usage, count_entropy, masked_moments
from jepa_speech.objective_parts.contract import Batch, Term, Tree
from jepa_speech.objective_parts.masked import ENCODER, MaskedObjective, masked_parts
from jepa_speech.objective_parts.terms import mean_term, negative_log_likelihood
from jepa_speech.settings.run_config import RunConfig


@dataclass(frozen=True)
class BestRqConfig:
    """Config section `objective`, name `best_rq`."""

    name: str = "best_rq"  # chooses this objective
    books: int = 1  # codebooks, each with a projection of its own [NeMo: num_books]
    codes: int = 8192  # codes of each codebook [NeMo: num_classes; SpeechBrain: cb_vocab]
    code_width: int = 16  # of the codes and the projected frames [NeMo: code_dim; SpeechBrain: cb_dim]

    def __post_init__(self) -> None:
        check_sizes(self, "objective", ("books", "codes", "code_width"))


@dataclass(frozen=True)
class BestRq(MaskedObjective):
    config: BestRqConfig
    head: Pure

    @property
    def window(self) -> int:
        """Log-mel frames at 100 Hz for each frame of the encoder."""
        return round(100 / self.encoder.frame_rate)

    def init(self, key: jax.Array) -> tuple[Tree, Tree]:
        keys = jax.random.split(key, 3)
        params = {"encoder": self.encoder.init(keys[0]), "head": self.head.init(keys[1])}
        size, c = self.window * DIMS["logmel"], self.config
        return params, random_projection(keys[2], size, c.books, c.codes, c.code_width)

    def loss(
        self, params: Tree, aux_state: Tree, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], Tree]:
        view = self.view(batch, key)
        z = self.encode(params, view.mixed, view.lengths, view.mask, fold(view.keys, ENCODER)).z
        x, whole = label_windows(view.clean, view.lengths, z.shape[1], self.window)
        labels, masked = code_ids(aux_state, x), view.masked * whole  # (B, T, G), (B, T)
        shape = (*labels.shape, self.config.codes)
        log_p = jax.nn.log_softmax(self.head.apply(params["head"], z).astype(jnp.float32).reshape(shape))
        surprise = negative_log_likelihood(log_p, labels)  # (B, T, G)
        terms = {
            "codes": mean_term(surprise.mean(-1), masked, 1.0),
            "code_accuracy": mean_term((log_p.argmax(-1) == labels).mean(-1), masked),
        }
        books = jnp.arange(self.config.books)
        counts = jnp.zeros(shape[2:]).at[books, labels].add(masked[..., None])  # (G, V)
        return terms, {"context": masked_moments(z, masked), "labels": counts}

    def report(self, stats: Tree) -> dict[str, jax.Array]:
        """Means over books. label_entropy, in nats: the loss of a predictor that knows only how frequent codes are.

        code_utilisation: the share of the codes that are a label in the batch, which has at most one for each frame.
        """
        counts = stats["labels"]
        return super().report(stats) | {
            "label_entropy": jax.vmap(count_entropy)(counts).mean(),
            "code_usage": jax.vmap(code_usage)(counts).mean(),
            "code_utilisation": (counts > 0).mean(),
        }


def label_windows(wave: jax.Array, lengths: jax.Array, size: int, window: int) -> tuple[jax.Array, jax.Array]:
    """wave (B, S), lengths (B,) samples -> (B, size, window · 80): each frame's log-mel frames side by side, and
    (B, size): True where a recording has all of them.

    Each band has mean 0 and deviation 1 over the valid log-mel frames of its row.
    """
    count = frames(lengths) + frames(lengths - HOP // 2)  # (B,) log-mel frames at 100 Hz
    x = normalised(dense_log_mel(wave, 2), count)
    x = jnp.pad(x, ((0, 0), (0, max(size * window - x.shape[1], 0)), (0, 0)))[:, : size * window]
    return x.reshape(len(x), size, -1), valid(count // window, size)


def normalised(x: jax.Array, lengths: jax.Array) -> jax.Array:
    """x (B, T, D) with mean 0 and deviation 1 of each dimension over its row's `lengths` (B,) frames; 0 beyond."""
    inside, count = valid(lengths, x.shape[1])[..., None], jnp.maximum(lengths, 1)[:, None, None]
    x = (x - (x * inside).sum(1, keepdims=True) / count) * inside
    return x * jax.lax.rsqrt(jnp.square(x).sum(1, keepdims=True) / count + 1e-5)


SECTIONS = {"objective": BestRqConfig}


def build(config: RunConfig, anchor: None = None) -> BestRq:
    """From the whole config."""
    objective, parts = of_kind(config.objective, BestRqConfig), masked_parts(config)
    width, outputs = parts["encoder"].width, objective.books * objective.codes
    return BestRq(**parts, config=objective, head=Pure(lambda rngs: Linear(width, outputs, rngs=rngs)))
