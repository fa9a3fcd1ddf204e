"""The released GMM-anchored JEPA (arXiv 2602.09040) from its state dict, conformer and transformer: what golden arrays
hold `nn/released.py` to.

Arrays are (B, D, T) outside, (B, T, D) inside. Arithmetic is float32, evaluation mode.
"""

import re
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from support.released_transformer import (
    ReleasedTransformerConfig,
    ReleasedTransformerEncoder,
    ReleasedTransformerPredictor,
)

from jepa_speech.errors import UsageError, UserError
from jepa_speech.nn.module import Params, Pure
from jepa_speech.nn.released import ReleasedConfig, ReleasedEncoder, ReleasedPredictor
from jepa_speech.nn.released_head import ReleasedHead

Names = tuple[tuple[str, str], ...]

# Our parameter paths become released names by these substitutions, applied in order.
SHARED: Names = (
    (r"^head\.", "cluster_head."),
    (r"^cluster_head\.input\.", "cluster_head.in_proj."),
    (r"^cluster_head\.output\.", "cluster_head.out_proj."),
    (r"^cluster_head\.input_norm\.", "cluster_head.in_norm."),
    (r"^cluster_head\.output_norm\.", "cluster_head.out_norm."),
    (r"^(cluster_head\.blocks\.\d)\.norm\.", r"\1.0."),
    (r"^(cluster_head\.blocks\.\d)\.up\.", r"\1.1."),
    (r"^(cluster_head\.blocks\.\d)\.down\.", r"\1.4."),
    (r"^predictor\.mask_token", "mask_token"),
    (r"\.query\.", ".q_proj."),
    (r"\.key\.", ".k_proj."),
    (r"\.value\.", ".v_proj."),
    (r"(?<!positions)\.(kernel|scale)$", ".weight"),
)
CONFORMER: Names = (
    *SHARED,
    (r"^encoder\.stages\.", "encoder."),
    (r"^encoder\.blocks\.", "conformers."),
    (r"^encoder\.projection\.", "proj."),
    (r"^encoder\.(input_conv|layer_attention|positions)\.", r"\1."),
    (r"^predictor\.input\.", "predictor.0."),
    (r"^predictor\.(block|positions)\.", r"predictor.2.\1."),
    (r"^predictor\.2\.block\.", "predictor.2."),
    (r"^predictor\.output\.", "predictor.3."),
    (r"positions\.table$", "rel_pos_bias.rel_pos_embed.weight"),
    (r"positions\.update$", "rel_pos_bias.gate_u_vec"),
    (r"positions\.reset$", "rel_pos_bias.gate_w_vec"),
    (r"positions\.scale$", "rel_pos_bias.gate_scale_scalar"),
    (r"\.dilated\.", ".convs1."),
    (r"\.plain\.", ".convs2."),
    (r"\.adaptive\.heads\.", ".gaatn.layers.0.heads."),
    (r"\.widths$", ".c"),
    (r"\.(ff\d)\.up\.", r".\1.0."),
    (r"\.(ff\d)\.down\.", r".\1.3."),
    (r"\.convolution\.norm_in\.", ".conv.0."),
    (r"\.convolution\.gate\.", ".conv.1."),
    (r"\.convolution\.taps$", ".conv.3.weight"),
    (r"\.convolution\.bias$", ".conv.3.bias"),
    (r"\.convolution\.norm_out\.", ".conv.4."),
    (r"\.convolution\.out\.", ".conv.6."),
    (r"^layer_attention\.output\.", "layer_attention.out_proj."),
)
TRANSFORMER: Names = (
    *SHARED,
    (r"^encoder\.convolutions\.(\d)\.", r"feature_extractor.conv_layers.\1.0."),
    (r"^encoder\.norms\.(\d)\.", r"feature_extractor.conv_layers.\1.1."),
    (r"^encoder\.projection\.", "post_extract_proj."),
    (r"^encoder\.norm\.", "layer_norm."),
    (r"^encoder\.positions\.table$", "rel_pos_bias.rel_pos_embed.weight"),
    (r"^encoder\.positions\.reset\.", "rel_pos_bias.gate_ur."),
    (r"^encoder\.positions\.update\.", "rel_pos_bias.gate_i."),
    (r"^encoder\.positions\.scale$", "rel_pos_bias.scale"),
    (r"^encoder\.blocks\.", "layers."),
    (r"\.attention_norm\.", ".self_attn_layer_norm."),
    (r"\.ff_norm\.", ".final_layer_norm."),
    (r"^(layers\.\d+)\.out\.", r"\1.out_proj."),
    (r"^(layers\.\d+)\.up\.", r"\1.fc1."),
    (r"^(layers\.\d+)\.down\.", r"\1.fc2."),
    (r"^predictor\.input\.", "predictor.0."),
    (r"^predictor\.output\.", "predictor.2."),
)
# Blocks repeat the table that they share; the transformer's mask embedding is never used.
REPEATED = re.compile(r"(conformers|layers)\.\d+\.rel_pos_bias\.|mask_emb$")


class Model(nnx.Module):
    """Encoder, predictor and head in the wiring of the release: predictor and head both read the whole wave's z."""

    def __init__(self, encoder: nnx.Module, predictor: nnx.Module, head: nnx.Module):
        self.encoder, self.predictor, self.head = encoder, predictor, head

    def __call__(self, wave: jax.Array, hidden: jax.Array) -> dict[str, jax.Array]:
        """wave (B, S), hidden (B, T) bool -> z_agg, z_pred, layer* (B, D, T), cluster_logits (B, T, K)."""
        encoded = self.encoder(wave, jnp.full(len(wave), wave.shape[1]))
        z, layers, frame_lengths = encoded.z, encoded.layers, encoded.frame_lengths
        if hidden.shape != z.shape[:2]:
            raise UsageError(f"mask_keep is {hidden.shape}, one value for each frame would be {z.shape[:2]}")
        out = {f"layer{i}": layer for i, layer in enumerate(layers)}
        out |= {"z_agg": z, "z_pred": self.predictor(z, hidden, frame_lengths)}
        out = {name: jnp.swapaxes(x, 1, 2) for name, x in out.items()}  # (B, D, T)
        return out | {"cluster_logits": self.head(z)}


class Released:
    """A released model with its weights."""

    def __init__(self, model: Pure, params: Params):
        self.params = params
        self._apply = jax.jit(model.apply)

    def forward(self, wav: np.ndarray, mask_keep: np.ndarray) -> dict[str, jax.Array]:
        """wav (B, 1, S), mask_keep (B, T): 1 visible, 0 hidden.

        Returns z_agg, z_pred, layer0, layer1, ... (B, D, T) and cluster_logits (B, T, K); layer0 is the input of
        the first block. Raises UsageError where mask_keep does not fit the frames.
        """
        with jax.default_matmul_precision("highest"):
            return self._apply(self.params, jnp.asarray(wav)[:, 0], jnp.asarray(mask_keep) == 0)


def from_state_dict(arrays: Mapping[str, np.ndarray], heads: int | None = None) -> Released:
    """A released model from its state dict (parameter name -> array); every size is read from the shapes.

    heads: attention heads, needed only where relative positions are off, for nothing else shows them.
    Raises UsageError without them, UserError for a missing, unknown or misshapen parameter.
    """
    table = arrays.get("rel_pos_bias.rel_pos_embed.weight")
    heads = heads if table is None else table.shape[1]
    if heads is None:
        raise UsageError("a state dict without relative positions does not show its number of heads: pass heads=")
    read, names = (_transformer, TRANSFORMER) if "post_extract_proj.weight" in arrays else (_conformer, CONFORMER)
    used = set()

    def fill(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        own = jax.tree_util.keystr(path, simple=True, separator=".")
        name = _released_name(own, names)
        used.add(name)
        array = np.asarray(arrays[name], np.float32)
        if own.endswith((".kernel", ".taps")):
            array = array.T  # (out, in, kernel) -> (kernel, in, out)
        if array.size != leaf.size:
            raise UserError(f"not a state dict of the released model: {name} has shape {arrays[name].shape}")
        return jnp.asarray(array.reshape(leaf.shape))

    try:
        model = Pure(read(arrays, heads))
        params = jax.tree_util.tree_map_with_path(
            fill, nnx.to_pure_dict(nnx.state(nnx.eval_shape(lambda: model.make(nnx.Rngs(0)))))
        )
    except KeyError as error:
        raise UserError(f"not a state dict of the released model: it lacks {error}") from error
    unknown = [name for name in arrays if name not in used and not REPEATED.match(name)]
    if unknown:
        raise UserError(f"not a state dict of the released model: it has {unknown[0]}, unknown there")
    return Released(model, params)


def _released_name(path: str, names: Names) -> str:
    for pattern, replacement in names:
        path = re.sub(pattern, replacement, path)
    return path


def _count(arrays: Mapping[str, np.ndarray], prefix: str) -> int:
    """How many numbered children `prefix` has."""
    return len({name[len(prefix) :].split(".")[0] for name in arrays if name.startswith(prefix)})


def _conformer(arrays: Mapping[str, np.ndarray], heads: int) -> Callable[[nnx.Rngs], Model]:
    stages = [arrays[f"encoder.{i}.conv.weight"].shape for i in range(_count(arrays, "encoder."))]
    config = ReleasedConfig(
        channels=(len(arrays["input_conv.weight"]), *(out for out, _, _ in stages)),
        strides=tuple(kernel // 2 for _, _, kernel in stages),
        width=len(arrays["proj.weight"]),
        res_blocks=_count(arrays, "encoder.0.res."),
        blocks=_count(arrays, "conformers."),
        heads=heads,
        relative_positions="rel_pos_bias.rel_pos_embed.weight" in arrays,
        adaptive_attention="encoder.0.gaatn.layers.0.heads.0.c" in arrays,
    )
    clusters = len(arrays["cluster_head.out_proj.weight"])
    return lambda rngs: Model(
        ReleasedEncoder(config, rngs),
        ReleasedPredictor(config, rngs),
        ReleasedHead(config.width, clusters, config.dropout, rngs),
    )


def _transformer(arrays: Mapping[str, np.ndarray], heads: int) -> Callable[[nnx.Rngs], Model]:
    width, channels = arrays["post_extract_proj.weight"].shape
    hidden, blocks = len(arrays["layers.0.fc1.weight"]), _count(arrays, "layers.")
    config = ReleasedTransformerConfig(channels, width, hidden, blocks, heads)
    clusters = len(arrays["cluster_head.out_proj.weight"])
    return lambda rngs: Model(
        ReleasedTransformerEncoder(config, rngs),
        ReleasedTransformerPredictor(config, rngs),
        ReleasedHead(width, clusters, 0.0, rngs),
    )


@jax.jit
def posteriors(means: np.ndarray, covariances: np.ndarray, weights: np.ndarray, x: np.ndarray) -> jax.Array:
    """Released soft labels: p_k proportional to w_k N(x; mean_k, diag(covariance_k + 1e-6)), temperature 1.

    means, covariances (K, F), weights (K,), x (B, F, T) -> (B T, K).
    """
    rows = jnp.swapaxes(jnp.asarray(x), 1, 2).reshape(-1, means.shape[1])  # (B T, F)
    variances = jnp.asarray(covariances) + 1e-6
    prior = jnp.log(jnp.asarray(weights) + 1e-10) - 0.5 * jnp.log(2 * jnp.pi * variances).sum(1)

    def log_joint(row: jax.Array) -> jax.Array:  # (F,) -> (K,)
        return prior - 0.5 * ((row - means) ** 2 / variances).sum(1)

    return jax.nn.softmax(jax.lax.map(log_joint, rows, batch_size=256))


@jax.jit
def losses(
    z_pred: np.ndarray,
    z_target: np.ndarray,
    cluster_logits: np.ndarray,
    posteriors: np.ndarray,
    mask_keep: np.ndarray,
) -> dict[str, jax.Array]:
    """Released losses, both means over hidden frames (mask_keep 0); 0 where none is hidden.

    z_pred, z_target (B, D, T), cluster_logits (B, T, K), posteriors (B T, K), mask_keep (B, T) -> scalars `jepa`
    (squared error per latent dimension) and `cluster` (KL of posterior to prediction, nats).
    """
    hidden = (jnp.asarray(mask_keep) == 0).astype(jnp.float32)
    count = jnp.maximum(hidden.sum(), 1)
    error = ((jnp.asarray(z_pred) - jnp.asarray(z_target)) ** 2).mean(1)  # (B, T)
    p = jnp.asarray(posteriors).reshape(cluster_logits.shape)
    divergence = (jax.scipy.special.xlogy(p, p) - p * jax.nn.log_softmax(jnp.asarray(cluster_logits))).sum(-1)
    return {"jepa": (error * hidden).sum() / count, "cluster": (divergence * hidden).sum() / count}
