"""Measure on recordings how far exports differ from their run, and all of them from double precision.

    python benchmarks/export_error.py RUN FILE... [--also onnx s3prl stablehlo]

Each figure is the largest difference over all frames of all files, divided by the root mean square of that layer.
The reference is the exported torch model in float64. Needs the extra [parity], and for --also those of each export.
"""

import argparse
import copy
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import soundfile
import torch
import transformers
from jax import export
from safetensors.numpy import load_file

import jepa_speech
from jepa_speech.cli import main
from jepa_speech.features.grid import SAMPLE_RATE

Layers = Callable[[np.ndarray], list[np.ndarray]]  # wave (S,) -> each (T, D)


def torch_layers(model: Any, extractor: Any) -> Layers:
    """Returns a function that computes the layers with an exported torch model, in the precision of the model."""

    def layers(wave: np.ndarray) -> list[np.ndarray]:
        inputs = extractor(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_values.to(model.dtype)
        with torch.no_grad():
            out = model(inputs, output_hidden_states=True)
        return [x[0].numpy() for x in (*out.hidden_states[:-1], out.last_hidden_state)]

    return layers


def onnx_layers(folder: Path) -> Layers:
    session = onnxruntime.InferenceSession(folder / "model.onnx")

    def layers(wave: np.ndarray) -> list[np.ndarray]:
        mask = np.ones((1, len(wave)), np.int64)
        return list(session.run(None, {"waves": wave[None], "mask": mask})[0][0])

    return layers


def s3prl_layers(folder: Path) -> Layers:
    upstream = torch.hub.load(str(folder), "jepa_speech", source="local").eval()

    def layers(wave: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            return [x[0].numpy() for x in upstream([torch.tensor(wave)])["hidden_states"]]

    return layers


def stablehlo_layers(folder: Path) -> Layers:
    program = export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
    weights = load_file(folder / "weights.safetensors")

    def layers(wave: np.ndarray) -> list[np.ndarray]:
        found, _ = program.call(weights, wave[None], np.array([len(wave)], np.int32))
        return [np.asarray(x[0]) for x in found]

    return layers


READERS = {"onnx": onnx_layers, "s3prl": s3prl_layers, "stablehlo": stablehlo_layers}


def differences(functions: dict[str, Layers], exact: Layers, waves: Sequence[np.ndarray]) -> list[dict[str, float]]:
    """A row for each layer: its `rms`, and between each two of `functions`, and from each to `exact`, the largest
    difference divided by it.
    """
    rows: list[dict[str, float]] = []
    squares: list[list[float]] = []
    for wave in waves:
        found = {name: function(wave) for name, function in functions.items()} | {"float64": exact(wave)}
        for i, judge in enumerate(found["float64"]):
            if i == len(rows):
                rows.append({})
                squares.append([])
            squares[i].append(float(np.square(judge).mean()))
            names = list(found)
            for j, one in enumerate(names):
                for other in names[j + 1 :]:
                    error = float(np.abs(found[one][i] - found[other][i]).max())
                    rows[i][f"{one} - {other}"] = max(rows[i].get(f"{one} - {other}", 0.0), error)
    rms = [float(np.sqrt(np.mean(square))) for square in squares]
    return [{"rms": size} | {key: x / size for key, x in row.items()} for size, row in zip(rms, rows, strict=True)]


def run(folder: str, files: Sequence[str], also: Sequence[str]) -> list[dict[str, float]]:
    ours = jepa_speech.load_pretrained(folder)
    waves = [soundfile.read(file, dtype="float32")[0] for file in files]
    with tempfile.TemporaryDirectory() as place:
        main(["export", "hf", folder, "--out", f"{place}/hf"])
        model = transformers.AutoModel.from_pretrained(f"{place}/hf", trust_remote_code=True).eval()
        extractor = transformers.AutoFeatureExtractor.from_pretrained(f"{place}/hf")
        functions = {
            "run": lambda wave: ours.represent(wave, SAMPLE_RATE).layers,
            "torch": torch_layers(model, extractor),
        }
        for kind in also:
            main(["export", kind, folder, "--out", f"{place}/{kind}"])
            functions[kind] = READERS[kind](Path(place) / kind)
        return differences(functions, torch_layers(copy.deepcopy(model).double(), extractor), waves)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("files", nargs="+", metavar="FILE", help="recordings of 16 kHz, mono")
    parser.add_argument("--also", nargs="+", default=[], choices=READERS, help="other exports")
    options = parser.parse_args()
    table = run(options.run, options.files, options.also)
    print("layer  " + "  ".join(table[0]))
    for layer, row in enumerate(table):
        print(f"{layer:5d}  " + "  ".join(f"{x:{len(key)}.2g}" for key, x in row.items()))
