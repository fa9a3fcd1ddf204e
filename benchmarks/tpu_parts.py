"""Memory of attention and of the front-end on a v5e chip, without a TPU, as this project computes them there and in
their plain forms: benchmarks/tpu_parts.json and tpu_parts.md.

    python benchmarks/tpu_parts.py

Needs the extra tpu-plan. Each part is compiled alone for one chip, with its gradient, in bfloat16, for four rows of
15 s at the sizes of HuBERT Base. The plain forms are those that a CPU computes. The table is written after each row;
the next run adds rows that are missing, and replaces those that other versions of jax or libtpu compiled.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jepa_speech.costs.tpu_compiler import slice_devices, versions
from jepa_speech.features.grid import SAMPLE_RATE, frames
from jepa_speech.files import read_json, write_json, write_text
from jepa_speech.nn.attention import attend
from jepa_speech.nn.conv_features import ConvFeatures
from jepa_speech.platform import written_for
from jepa_speech.training.compiled import for_tpu

HERE = Path(__file__).parent
REPORT = HERE / "tpu_parts.json"
ROWS, SAMPLES, HEADS, CHANNELS, WIDTH = 4, 15 * SAMPLE_RATE, 12, 64, 512
FRAMES = frames(SAMPLES)
FORMS = {"tpu": "on a TPU", "any": "plain"}
HEAD = ["part", "form", "temporaries, MB", "compile, s"]
Shape = jax.ShapeDtypeStruct
Part = tuple[Callable[..., jax.Array], tuple[Any, ...]]  # a loss, and the shapes of its arguments


def attention(biased: bool) -> Part:
    wave, inside = Shape((ROWS, FRAMES, HEADS, CHANNELS), jnp.bfloat16), Shape((ROWS, FRAMES), bool)
    floats = [wave, wave, wave]
    if biased:
        floats += [Shape((HEADS, FRAMES, FRAMES), jnp.float32), Shape((ROWS, HEADS, FRAMES), jnp.float32)]

    def loss(arrays: list[jax.Array], weight: jax.Array, inside: jax.Array, keys: jax.Array) -> jax.Array:
        return (attend(*arrays[:3], inside, keys, 0.1, *arrays[3:]).astype(jnp.float32) * weight).sum()

    return loss, (floats, Shape(wave.shape, jnp.float32), inside, Shape((ROWS, 2), jnp.uint32))


def front_end() -> Part:
    def made() -> ConvFeatures:
        return ConvFeatures(WIDTH, "group", False, 0.1, 1e-5, jnp.dtype("bfloat16"), nnx.Rngs(0))

    graph, parameters = nnx.split(nnx.eval_shape(made))
    leaves, tree = jax.tree.flatten(parameters)

    def loss(leaves: list[jax.Array], weight: jax.Array, wave: jax.Array, lengths: jax.Array) -> jax.Array:
        features, energy = nnx.merge(graph, jax.tree.unflatten(tree, leaves))(wave, lengths)
        return (features.astype(jnp.float32) * weight).sum() + energy.mean()

    shapes = Shape((ROWS, FRAMES, WIDTH), jnp.float32), Shape((ROWS, SAMPLES), jnp.float32), Shape((ROWS,), jnp.int32)
    return loss, ([Shape(x.shape, x.dtype) for x in leaves], *shapes)


PARTS: dict[str, Callable[[], Part]] = {
    "attention with dropout (HuBERT Base)": lambda: attention(False),
    "attention with dropout and gated bias (WavLM Base)": lambda: attention(True),
    "front-end, group norm (HuBERT Base)": front_end,
}


def compiled(part: str, form: Any) -> dict[str, Any]:
    """Compiles a part in a form for one chip. Returns bytes of its temporaries, and compile_seconds."""
    loss, shapes = PARTS[part]()
    chip = jax.sharding.SingleDeviceSharding(slice_devices("v5e:2x4")[0])
    shapes = jax.tree.map(lambda x: Shape(x.shape, x.dtype, sharding=chip), shapes)
    began = time.perf_counter()
    with written_for(form):
        lowered = jax.jit(jax.value_and_grad(loss)).trace(*shapes).lower()
    program = for_tpu(lowered) if form == "tpu" else lowered.compile()
    return {
        "temporaries": program.memory_analysis().temp_size_in_bytes,
        "compile_seconds": time.perf_counter() - began,
    }


def main() -> None:
    used, made = versions(), read_json(REPORT)["rows"] if REPORT.exists() else []
    made = [row for row in made if row["versions"] == used]
    order = [(part, form) for part in PARTS for form in FORMS]
    for part, form in order:
        if (part, form) in {(row["part"], row["form"]) for row in made}:
            continue
        print(f"{part}, {FORMS[form]}: compiling", flush=True)
        made.append({"part": part, "form": form, "versions": used} | compiled(part, form))
        made.sort(key=lambda row: order.index((row["part"], row["form"])))
        cells = [
            [
                row["part"],
                FORMS[row["form"]],
                f"{row['temporaries'] / 1e6:.0f}",
                f"{row['compile_seconds']:.0f}",
            ]
            for row in made
        ]
        write_json(REPORT, {"table": [HEAD, *cells], "rows": made})
        lines = [f"| {' | '.join(line)} |" for line in (HEAD, *cells)]
        lines.insert(1, "|---" * len(HEAD) + "|")
        named = ", ".join(f"{name} {number}" for name, number in used.items())
        text = f"By `python benchmarks/tpu_parts.py`, with {named}, on two busy CPU cores."
        write_text(HERE / "tpu_parts.md", "\n".join(lines) + f"\n\n{text}\n")


if __name__ == "__main__":
    main()
