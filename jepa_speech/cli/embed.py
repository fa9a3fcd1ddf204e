"""jepa-speech embed: recordings → one layer of a trained encoder, as arrays in one file."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from jepa_speech.cli.embed_files import FORMATS
from jepa_speech.cli.recordings import existing, wave_of
from jepa_speech.errors import UsageError, UserError
from jepa_speech.export.pretrained import Pretrained, load_pretrained
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.files import replacing

HELP = "features of recordings, by a trained encoder, as .npz or .parquet: for each file an array (frames, width)"
EXAMPLE = "jepa-speech embed a.flac b.wav --checkpoint runs/mine --layer 3 --out features.npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("audio", nargs="+", metavar="AUDIO", help="files: wav, flac, ogg, opus or mp3, of any rate")
    parser.add_argument("--checkpoint", required=True, metavar="RUN", help="a run folder, or one of transformers")
    parser.add_argument("--layer", type=int, metavar="N", help="0 is the input of the first block (default: the last)")
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="FILE.npz or FILE.parquet: the arrays, float32, by the files' names",
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    if (form := FORMATS.get(Path(options.out).suffix)) is None:
        raise UsageError(f"--out {options.out}: the file's name must end in {' or '.join(FORMATS)}")
    names = existing(options.audio)
    model = load_pretrained(options.checkpoint)
    frames = 0
    with replacing(options.out) as file, form(file) as add:
        for name in tqdm(names, desc="embed", unit="file", disable=None):
            layers = embedded(model, name)
            features = chosen(layers, options.layer)
            frames += len(features)
            add(name, features)
    results = {
        "out": options.out,
        "files": len(names),
        "frames": frames,
        "width": features.shape[1],
        "layer": len(layers) - 1 if options.layer is None else options.layer,
        "layers": len(layers),
        "frame_rate": model.objective.frame_rate,
        "step": model.step,
    }
    print(
        "{out}: {files} files, {frames} frames of width {width}, layer {layer} of 0 to {last}, {frame_rate:g} frames a "
        "second".format(last=len(layers) - 1, **results)
    )
    return results


def embedded(model: Pretrained, name: str) -> list[np.ndarray]:
    """The layers of a file, (T, D) each; raises UserError, naming it, where it cannot be used."""
    wave = wave_of(name)
    try:
        return model.represent(wave, SAMPLE_RATE).layers
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def chosen(layers: list[np.ndarray], layer: int | None) -> np.ndarray:
    """Raises UsageError for a layer that is not there."""
    if layer is not None and not 0 <= layer < len(layers):
        raise UsageError(f"--layer {layer}: this encoder has the layers 0 to {len(layers) - 1}")
    return layers[-1 if layer is None else layer]
