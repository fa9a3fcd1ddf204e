"""Golden arrays of the released models: a second implementation, in float64 NumPy, of the published arithmetic.

It shares nothing with the package: channels come first, convolutions are gathered windows, positions a double loop.
Weights are random and tiny, drawn on the float16 grid so that they store small.

    cd tests && python -m golden.make_released  # writes released_conformer.npz and released_transformer.npz here
"""

import math
from pathlib import Path

import numpy as np
from golden.layers import (
    Weights,
    adaptive,
    attend,
    clip_norm,
    conv,
    dense,
    gelu,
    layer_norm,
    leaky,
    position_table,
    sigmoid,
    split,
)
from scipy.special import log_softmax, softmax

HERE = Path(__file__).parent
ROWS, SAMPLES, CLUSTERS, BANDS = 2, 3200, 8, 80


def draw_block(w, name, width):
    for ff in ("ff1", "ff2"):
        w.dense(f"{name}.{ff}.0", 4 * width, width)
        w.dense(f"{name}.{ff}.3", width, 4 * width)
    w.dense(f"{name}.qkv", 3 * width, width)
    w.dense(f"{name}.out", width, width)
    w.norm(f"{name}.conv.0", width)
    w.dense(f"{name}.conv.1", 2 * width, width, 1)
    w.dense(f"{name}.conv.3", width, 1, 31)
    w.norm(f"{name}.conv.4", width)
    w.dense(f"{name}.conv.6", width, width, 1)


def block(w, name, x, heads):
    """Conformer block: x (B, D, T)"""
    s = x.transpose(0, 2, 1)
    s = s + 0.5 * dense(w, f"{name}.ff1.3", gelu(dense(w, f"{name}.ff1.0", s)))
    q, k, v = (split(part, heads) for part in np.split(dense(w, f"{name}.qkv", s), 3, axis=-1))
    d = position_table(w, s.shape[1])
    update = sigmoid(np.einsum("bhtd,hd->bht", q, w["rel_pos_bias.gate_u_vec"]))[..., None]
    reset = sigmoid(np.einsum("bhtd,hd->bht", q, w["rel_pos_bias.gate_w_vec"]))[..., None]
    scale = w["rel_pos_bias.gate_scale_scalar"][:, None, None]
    s = s + dense(w, f"{name}.out", attend(q, k, v, d + update * d + (1 - update) * scale * reset * d))
    x = s.transpose(0, 2, 1)
    a, b = np.split(conv(w, f"{name}.conv.1", clip_norm(w, f"{name}.conv.0", x)), 2, axis=1)
    y = conv(w, f"{name}.conv.3", a * sigmoid(b), padding=15)
    y = clip_norm(w, f"{name}.conv.4", y)
    s = (x + conv(w, f"{name}.conv.6", y * sigmoid(y))).transpose(0, 2, 1)
    return (s + 0.5 * dense(w, f"{name}.ff2.3", gelu(dense(w, f"{name}.ff2.0", s)))).transpose(0, 2, 1)


def draw_head(w, width):
    w.draw("mask_token", 1, width, 1)
    w.dense("cluster_head.in_proj", 2 * width, width)
    w.norm("cluster_head.in_norm", 2 * width)
    for i in range(3):
        w.norm(f"cluster_head.blocks.{i}.0", 2 * width)
        w.dense(f"cluster_head.blocks.{i}.1", 2 * width, 2 * width)
        w.dense(f"cluster_head.blocks.{i}.4", 2 * width, 2 * width)
    w.norm("cluster_head.out_norm", 2 * width)
    w.dense("cluster_head.out_proj", CLUSTERS, 2 * width)


def head(w, z):
    x = gelu(layer_norm(w, "cluster_head.in_norm", dense(w, "cluster_head.in_proj", z.transpose(0, 2, 1))))
    for i in range(3):
        name = f"cluster_head.blocks.{i}"
        hidden = gelu(dense(w, f"{name}.1", layer_norm(w, f"{name}.0", x)))
        x = x + dense(w, f"{name}.4", hidden)
    return dense(w, "cluster_head.out_proj", layer_norm(w, "cluster_head.out_norm", x))


def conformer(w: Weights, wave, keep) -> dict[str, np.ndarray]:
    width, heads, channels, strides = 12, 2, (2, 4, 4, 8), (8, 8, 5)
    w.dense("input_conv", channels[0], 1, 7)
    for i, (inputs, outputs, stride) in enumerate(zip(channels, channels[1:], strides, strict=False)):
        w.dense(f"encoder.{i}.conv", outputs, inputs, 2 * stride)
        w.draw(f"encoder.{i}.snake.a", 1, outputs, 1)
        for r in range(2):
            for unit in range(3):
                w.dense(f"encoder.{i}.res.{r}.convs1.{unit}", outputs, outputs, 3)
                w.dense(f"encoder.{i}.res.{r}.convs2.{unit}", outputs, outputs, 3)
        for h in range(4):
            w.draw(f"encoder.{i}.gaatn.layers.0.heads.{h}.mean_offsets", 4, spread=0.1)
            w.draw(f"encoder.{i}.gaatn.layers.0.heads.{h}.c", 4, spread=0.4, mean=1.5)
    w.dense("proj", width, channels[-1], 1)
    w.draw("rel_pos_bias.rel_pos_embed.weight", 320, heads)
    w.draw("rel_pos_bias.gate_u_vec", heads, width // heads)
    w.draw("rel_pos_bias.gate_w_vec", heads, width // heads)
    w.draw("rel_pos_bias.gate_scale_scalar", heads, mean=1.0, spread=0.2)
    for name in ("q", "k", "v", "out"):
        w.dense(f"layer_attention.{name}_proj", width, width, gain=2.0)
    draw_head(w, width)
    w.dense("predictor.0", width, width, 1)
    w.dense("predictor.3", width, width, 1)
    for name in ("conformers.0", "conformers.1", "predictor.2"):
        draw_block(w, name, width)

    x = conv(w, "input_conv", wave, padding=3)
    for i, stride in enumerate(strides):
        x = conv(w, f"encoder.{i}.conv", x, stride=stride, padding=stride // 2)
        a = np.log1p(np.exp(w[f"encoder.{i}.snake.a"])) + 0.01
        x = x + np.sin(a * x) ** 2 / a
        for r in range(2):
            for unit, dilation in enumerate((1, 3**r, 5**r)):
                y = conv(w, f"encoder.{i}.res.{r}.convs1.{unit}", leaky(x), padding=dilation, dilation=dilation)
                x = x + conv(w, f"encoder.{i}.res.{r}.convs2.{unit}", leaky(y), padding=1)
        x = adaptive(w, f"encoder.{i}.gaatn.layers.0.heads", x)
    layers = [conv(w, "proj", x)]
    for i in range(2):
        layers.append(block(w, f"conformers.{i}", layers[-1], heads))

    means = np.stack(layers, 1).mean(-1)  # (B, layers, D)
    q = split(dense(w, "layer_attention.q_proj", means[:, -1:]), 4)
    k = split(dense(w, "layer_attention.k_proj", means), 4)
    weights = softmax(q @ k.transpose(0, 1, 3, 2) / math.sqrt(width // 4), axis=-1).mean(1)[:, 0]  # (B, layers)
    z = np.einsum("bl,bldt->bdt", weights, np.stack(layers, 1))
    y = gelu(conv(w, "predictor.0", np.where(keep[:, None] == 1, z, w["mask_token"])))
    predicted = conv(w, "predictor.3", block(w, "predictor.2", y, heads))
    for name in [name for name in w if name.startswith("rel_pos_bias.")]:  # a state dict repeats shared modules
        for owner in ("conformers.0", "conformers.1", "predictor.2"):
            w[f"{owner}.{name}"] = w[name]
    return {"z_agg": z, "z_pred": predicted, "cluster_logits": head(w, z)} | {
        f"layer{i}": layer for i, layer in enumerate(layers)
    }


def transformer(w: Weights, wave, keep) -> dict[str, np.ndarray]:
    width, heads, channels, hidden = 12, 2, 8, 24
    kernels = ((10, 5), *[(3, 2)] * 6)
    for i, (kernel, _) in enumerate(kernels):
        w.dense(f"feature_extractor.conv_layers.{i}.0", channels, channels if i else 1, kernel, bias=False)
        w.norm(f"feature_extractor.conv_layers.{i}.1", channels)
    w.dense("post_extract_proj", width, channels)
    w.norm("layer_norm", width)
    w.draw("mask_emb", width)
    w.draw("rel_pos_bias.rel_pos_embed.weight", 320, heads)
    w.draw("rel_pos_bias.scale", heads, mean=1.0, spread=0.2)
    w.draw("rel_pos_bias.gate_ur.weight", heads, width // heads)
    w.draw("rel_pos_bias.gate_i.weight", heads, width // heads)
    for i in range(2):
        for name in ("self_attn_layer_norm", "final_layer_norm"):
            w.norm(f"layers.{i}.{name}", width)
        for name in ("q", "k", "v", "out"):
            w.dense(f"layers.{i}.{name}_proj", width, width)
        w.dense(f"layers.{i}.fc1", hidden, width)
        w.dense(f"layers.{i}.fc2", width, hidden)
    draw_head(w, width)
    w.dense("predictor.0", width, width, 1)
    w.dense("predictor.2", width, width, 1)

    x = wave
    for i, (_, stride) in enumerate(kernels):
        name = f"feature_extractor.conv_layers.{i}"
        x = gelu(clip_norm(w, f"{name}.1", conv(w, f"{name}.0", x, stride=stride)))
    layers = [layer_norm(w, "layer_norm", dense(w, "post_extract_proj", x.transpose(0, 2, 1)))]
    for i in range(2):
        s = layers[-1]
        y = layer_norm(w, f"layers.{i}.self_attn_layer_norm", s)
        q, k, v = (split(dense(w, f"layers.{i}.{name}_proj", y), heads) for name in "qkv")
        mean = q.mean(2).mean(1)  # (B, D/H): one gate per row and head
        reset = sigmoid(mean @ w["rel_pos_bias.gate_ur.weight"].T)[..., None, None]
        update = sigmoid(mean @ w["rel_pos_bias.gate_i.weight"].T)[..., None, None]
        d = position_table(w, s.shape[1])
        bias = d + update * (w["rel_pos_bias.scale"][:, None, None] * reset * d)
        s = s + dense(w, f"layers.{i}.out_proj", attend(q, k, v, bias))
        y = gelu(dense(w, f"layers.{i}.fc1", layer_norm(w, f"layers.{i}.final_layer_norm", s)))
        layers.append(s + dense(w, f"layers.{i}.fc2", y))
    layers = [layer.transpose(0, 2, 1) for layer in layers]
    z = layers[-1]
    y = gelu(conv(w, "predictor.0", np.where(keep[:, None] == 1, z, w["mask_token"])))
    return {"z_agg": z, "z_pred": conv(w, "predictor.2", y), "cluster_logits": head(w, z)} | {
        f"layer{i}": layer for i, layer in enumerate(layers)
    }


def soft_labels(means, covariances, weights, x):
    rows = x.transpose(0, 2, 1).reshape(-1, x.shape[1])
    joint = np.zeros((len(rows), len(weights)))
    for k, weight in enumerate(weights):
        variance = covariances[k] + 1e-6
        density = -0.5 * ((rows - means[k]) ** 2 / variance + np.log(2 * np.pi * variance)).sum(1)
        joint[:, k] = np.log(weight + 1e-10) + density
    return softmax(joint, axis=1)


def golden(forward, seed: int) -> dict[str, np.ndarray]:
    """Everything the tests compare, by the names of the golden files; float16 where exact, else float32."""
    inputs = Weights(seed)
    inputs.draw("wav", ROWS, 1, SAMPLES, spread=0.3)
    frames = SAMPLES // 320 - 1
    keep = (inputs.random.random((ROWS, frames)) > 0.5).astype(np.float16)
    inputs.draw("gmm/means", CLUSTERS, BANDS, spread=0.3)
    inputs.draw("gmm/x", ROWS, BANDS, frames)
    inputs["gmm/covariances"] = (0.5 + inputs.random.random((CLUSTERS, BANDS))).astype(np.float16)
    inputs["gmm/weights"] = inputs.random.dirichlet(np.ones(CLUSTERS)).astype(np.float16)
    weights = Weights(seed + 1)
    out = forward(weights, inputs["wav"], keep)
    inputs.draw("z_target", *out["z_agg"].shape)
    gmm = (inputs[f"gmm/{name}"].astype(np.float64) for name in ("means", "covariances", "weights", "x"))
    q = soft_labels(*gmm)
    hidden = keep.reshape(-1) == 0
    error = (out["z_pred"] - inputs["z_target"]).transpose(0, 2, 1)[keep == 0] ** 2
    log_p = log_softmax(out["cluster_logits"], axis=-1).reshape(-1, CLUSTERS)
    divergence = (q * (np.log(np.maximum(q, 1e-300)) - log_p)).sum(1)[hidden]
    results = {f"out/{name}": value for name, value in out.items()} | {
        "gmm/posteriors": q,
        "loss/jepa": error.mean(),
        "loss/cluster": divergence.mean(),
    }
    exact = {f"sd/{name}": value for name, value in weights.items()} | dict(inputs) | {"mask_keep": keep}
    return {name: np.asarray(value, np.float16) for name, value in exact.items()} | {
        name: np.asarray(value, np.float32) for name, value in results.items()
    }


VARIANTS = {"conformer": (conformer, 0), "transformer": (transformer, 100)}

if __name__ == "__main__":
    for variant, (forward, seed) in VARIANTS.items():
        np.savez_compressed(HERE / f"released_{variant}.npz", **golden(forward, seed))
