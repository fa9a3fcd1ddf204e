"""Writes a trained encoder as a StableHLO program with variable batch size and length, by `jax.export`.

The program takes the weights as an argument, by name. It thus has only about 100 KB, compilers need not fold hundreds
of megabytes of constants, and it also runs with other weights of the same encoder.
"""

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.interpreters.partial_eval import dce_jaxpr  # 2026-11: see training/compiled.py

import jepa_speech
from jepa_speech.errors import UserError
from jepa_speech.exporters.model_card import escaped, provenance, table
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.files import replacing, write_json, write_text
from jepa_speech.huggingface.safetensors import write_safetensors
from jepa_speech.objective_parts.contract import Objective, Tree
from jepa_speech.objective_parts.masked import MaskedObjective
from jepa_speech.ownership import refuse_existing
from jepa_speech.platform import as_written
from jepa_speech.settings.run_config import RunConfig
from jepa_speech.training.checkpoint_steps import name_of

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
FILES = ("model.stablehlo", "weights.safetensors", "README.md", "export.json")

README = """# {name}, as a StableHLO program

The encoder of a {objective} run of jepa_speech {version}, from waves to the frames of every layer. It needs jax
{jax_version} or later (with flatbuffers), but not jepa_speech. Run this in the folder:

```python
from pathlib import Path
from jax import export
from safetensors.numpy import load_file

program, weights = export.deserialize(bytearray(Path("model.stablehlo").read_bytes())), load_file("weights.safetensors")
layers, frame_lengths = program.call(weights, waves, lengths)
```

- `waves` (B, S) float32: 16 kHz, mono, of any level; padding may have any values. `lengths` (B,) int32: samples of each
  row, at least {min_samples}. B and S may be any.
- `layers`: {layers} arrays (B, T, {width}) float32, {frame_rate:g} frames per second. If there are several, the
  first is the input of the first block. `frame_lengths` (B,): valid frames of each row.
- {padding}
- On speech and a CPU, layers differed from those of the run by up to 1e-5 of a layer's root mean square.
- It runs on {platforms}. Each new shape is compiled once, so pad to a few.

## Origin

{provenance}"""
EXACT = "Padding and other rows of a batch do not change the layers of a row."
NOT_EXACT = "Padding changes the layers of this encoder: run recordings one at a time."


class Program(NamedTuple):
    """exported: (weights, waves (B, S), lengths (B,)) -> (layers [(B, T, D)], frame lengths (B,)); weights by name."""

    exported: export.Exported
    weights: dict[str, np.ndarray]


def to_stablehlo(objective: Objective, params: Tree, aux_state: Tree) -> Program:
    """Exports `represent` for any batch size, and any length from the objective's shortest on.

    Raises UserError if the package flatbuffers is missing.
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise UserError("flatbuffers is missing, which jax needs to write a program: pip install flatbuffers")
    # Exported programs name their weights by these keys, so "slow", the earlier name of the auxiliary state, stays.
    leaves, tree = jax.tree_util.tree_flatten_with_path({"params": params, "slow": aux_state})
    arrays = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    shortest, hop = objective.min_samples, round(SAMPLE_RATE / objective.frame_rate)

    def represent(weights: dict[str, jax.Array], waves: jax.Array, lengths: jax.Array) -> Any:
        # No layer reads parameters that are not among the weights.
        whole = jax.tree.unflatten(tree, [weights.get(name, leaf) for name, leaf in arrays.items()])
        with as_written():  # without kernels for this machine's device, since the program must run on any
            layers, frame_lengths = objective.represent(whole["params"], whole["slow"], waves, lengths)
        return [layer.astype(jnp.float32) for layer in layers], frame_lengths

    shapes = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in arrays.items()}
    rows, row = jax.ShapeDtypeStruct((1, shortest), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    jaxpr, (layers, _) = jax.make_jaxpr(represent, return_shape=True)(shapes, rows, row)
    read = dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.out_avals))[1]
    names = [name for name, used in zip(sorted(shapes), read, strict=False) if used]
    beyond = shortest - hop * layers[0].shape[1]  # samples of the last frame's window beyond its hop

    def any_length(weights: dict[str, jax.Array], waves: jax.Array, lengths: jax.Array) -> Any:
        """Pads with silence to the frame grid, so that jax can express the number of frames of a symbolic length."""
        size = waves.shape[1]
        on_grid = beyond - (beyond - size) // hop * hop
        waves = jnp.where(jnp.arange(size) < lengths[:, None], waves, 0)
        layers, frame_lengths = represent(weights, jnp.pad(waves, ((0, 0), (0, on_grid - size))), lengths)
        return [layer[:, : (size - beyond) // hop] for layer in layers], frame_lengths

    batch, size = export.symbolic_shape("batch, samples", constraints=["batch >= 1", f"samples >= {shortest}"])
    exported = export.export(jax.jit(any_length), platforms=PLATFORMS)(
        {name: shapes[name] for name in names},
        jax.ShapeDtypeStruct((batch, size), jnp.float32),
        jax.ShapeDtypeStruct((batch,), jnp.int32),
    )
    return Program(exported, {name: np.asarray(arrays[name]) for name in names})


def write_folder(
    folder: str | Path, program: Program, run: str | Path, config: RunConfig, objective: Objective, step: int
) -> dict[str, Any]:
    """Writes the folder, export.json last, and returns the contents of export.json.

    Raises UserError if the folder has a file of one of these names, or cannot be written.
    """
    folder = Path(folder)
    refuse_existing(folder, ["export.json", *FILES])
    rows = [["what", "value"], *provenance(run, config, step)]
    *layers, _ = program.exported.out_avals
    said = {
        "objective": config.objective.name,
        "step": step,
        "sample_rate": SAMPLE_RATE,
        "frame_rate": objective.frame_rate,
        "min_samples": objective.min_samples,
        "layers": len(layers),
        "width": layers[0].shape[-1],
        "parameters": sum(array.size for array in program.weights.values()),
        "platforms": list(PLATFORMS),
        "provenance": dict(rows[1:]),
    }
    exact = not isinstance(objective, MaskedObjective) or objective.encoder.padding_exact
    readme = README.format(
        name=escaped(name_of(run)),
        version=jepa_speech.__version__,
        jax_version=jax.__version__,
        padding=EXACT if exact else NOT_EXACT,
        **said | {"platforms": ", ".join(PLATFORMS), "provenance": table(rows)},
    )
    try:
        with replacing(folder / "model.stablehlo") as file:
            file.write(program.exported.serialize())
        write_safetensors(folder / "weights.safetensors", program.weights, {})
        write_text(folder / "README.md", readme)
        write_json(folder / "export.json", said)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error
    return said
